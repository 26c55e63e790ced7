"""MindIE's file of settings: ours, under those that the user names.

The fields are those that ``src/config_manager/`` of MindIE-LLM 3.0.0 requires, with the values of
its ``src/server/conf/config.json`` where nothing is said of them.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from pytest_llmperf.errors import UsageMistake, nearest
from pytest_llmperf.records import Json, Placement

from .cookbook import Recipe
from .naming import is_distill, is_r1, is_tiny

#: A prompt of 1k tokens and an answer of 8k, or the other way round, with room for a chat template.
_MAX_SEQUENCE = 10240
_MAX_INPUT = 8192
#: The largest that it accepts, in seconds.
_TOKEN_TIMEOUT, _REQUEST_TIMEOUT = 3600, 65535

_RESERVED: Mapping[str, str] = {
    "ipAddress": "the plugin chooses the address",
    "managementIpAddress": "the plugin chooses the address",
    "port": "the plugin chooses a free port",
    "managementPort": "the plugin chooses a free port",
    "metricsPort": "the plugin chooses a free port",
    "httpsEnabled": "requests to a server that is started here are plain HTTP",
    "modelName": "requests use the name given with model=",
    "modelWeightPath": "name the model's directory with model=",
}

_SERVER: Mapping[str, Json] = {
    "allowAllZeroIpListening": False,
    "maxLinkNum": 1000,
    "fullTextEnabled": False,
    "inferMode": "standard",
    "interCommTLSEnabled": False,
    "interCommPort": 1121,
    "openAiSupport": "vllm",
    "tokenTimeout": _TOKEN_TIMEOUT,
    "e2eTimeout": _REQUEST_TIMEOUT,
    "distDPServerEnabled": False,
}
_BACKEND: Mapping[str, Json] = {
    "backendName": "mindieservice_llm_engine",
    "modelInstanceNumber": 1,
    "tokenizerProcessNumber": 8,
    "multiNodesInferEnabled": False,
    "multiNodesInferPort": 1120,
    "interNodeTLSEnabled": False,
}
_MODEL: Mapping[str, Json] = {
    "modelInstanceType": "Standard",
    "cpuMemSize": 0,
    "npuMemSize": -1,
    "backendType": "atb",
    "trustRemoteCode": False,
}
_SCHEDULE: Mapping[str, Json] = {
    "templateType": "Standard",
    "templateName": "Standard_LLM",
    "cacheBlockSize": 128,
    "prefillTimeMsPerReq": 150,
    "prefillPolicyType": 0,
    "decodeTimeMsPerReq": 50,
    "decodePolicyType": 0,
    "maxPreemptCount": 0,
    "supportSelectBatch": False,
    "maxQueueDelayMicroseconds": 5000,
    "maxFirstTokenWaitTime": 2500,
}
_LOG: Mapping[str, Json] = {
    "dynamicLogLevel": "",
    "dynamicLogLevelValidHours": 2,
    "dynamicLogLevelValidTime": "",
}
_LEAST_PREFILL = 8192
_BATCH, _PREFILL_BATCH = 200, 50
#: 2.x takes JSON in a string here, 3.x that or JSON.
_STRINGS = frozenset({"plugin_params"})


def model_name(served: str) -> str:
    """A name that MindIE takes: letters, digits, ".", "_" and "-" between letters or digits."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", PurePath(served).name)
    return re.sub(r"^[^A-Za-z0-9]+|[^A-Za-z0-9]+$", "", name) or "model"


def spread_args(
    args: Sequence[str], placement: Placement, recipe: Recipe | None
) -> tuple[str, ...]:
    """``args`` that say over how many devices the model is spread, as the user says or else as the
    recipe does; over all of them where nothing is known of the model."""
    user = _Settings(args)
    if user.value("worldSize") is not None or user.value("npuDeviceIds") is not None:
        return tuple(args)
    known = placement.size is not None or is_r1(placement)
    count = (recipe.tp if recipe else 1) if known else placement.accelerator.count
    return ("--worldSize", str(count), *args)


def config_text(args: Sequence[str], placement: Placement) -> str:
    """The whole file. Raises UsageMistake for a setting that there is not, or not for the user."""
    user = _Settings(args)
    devices = _devices(user, placement)
    length = user.whole("maxSeqLen", _MAX_SEQUENCE)
    prompt = user.whole("maxInputTokenLen", min(_MAX_INPUT, length))
    batch = user.whole("maxBatchSize", _BATCH)
    model: dict[str, Json] = {
        **_MODEL,
        "modelName": model_name(placement.served_name),
        "modelWeightPath": placement.model_path,
        "worldSize": len(devices),
    }
    if is_r1(placement) and not (is_distill(placement) or is_tiny(placement)):
        # Its distills have no parser of their own there: their thoughts are told by their tags.
        model["models"] = {"deepseekv2": {"enable_reasoning": True}}
    config: dict[str, Json] = {
        "Version": "1.0.0",
        "ServerConfig": {**_address(placement), **_SERVER},
        "BackendConfig": {
            **_BACKEND,
            "npuDeviceIds": [[*devices]],
            "ModelDeployConfig": {
                "maxSeqLen": length,
                "maxInputTokenLen": prompt,
                "truncation": 0,
                "ModelConfig": [model],
            },
            "ScheduleConfig": {
                **_SCHEDULE,
                "maxPrefillTokens": max(_LEAST_PREFILL, prompt),
                "maxIterTimes": length,
                "maxBatchSize": batch,
                "maxPrefillBatchSize": min(_PREFILL_BATCH, batch),
            },
        },
        "LogConfig": dict(_LOG),
    }
    return json.dumps(user.laid_over(config), indent=2, ensure_ascii=False) + "\n"


def _address(placement: Placement) -> dict[str, Json]:
    """All it offers at one address: only then does it open one port."""
    return {
        "ipAddress": placement.host,
        "managementIpAddress": placement.host,
        "port": placement.port,
        "managementPort": placement.port,
        "metricsPort": placement.port,
        "httpsEnabled": False,
    }


def _devices(user: _Settings, placement: Placement) -> list[int]:
    """The numbers of the chips: they count anew from 0 among those that are visible."""
    chosen = user.value("npuDeviceIds")
    if isinstance(chosen, list) and chosen and isinstance(chosen[0], list):
        return [int(number) for number in chosen[0] if isinstance(number, int)]
    count = user.whole("worldSize", placement.accelerator.count)
    return list(range(count))


# --- the user's settings ---------------------------------------------------------------------


class _Settings:
    """Settings named as flags, by name or by path."""

    def __init__(self, args: Sequence[str]) -> None:
        self._given = dict(_pairs(args))
        for name in self._given:
            leaf = name.rpartition(".")[2]
            if leaf in _RESERVED:
                raise UsageMistake(
                    f"--{name} cannot stand in args= of llm_server: {_RESERVED[leaf]}."
                )

    def value(self, leaf: str) -> Json:
        """What was given for the setting, ``None`` for nothing."""
        found = [value for name, value in self._given.items() if name.rpartition(".")[2] == leaf]
        return found[-1] if found else None

    def whole(self, leaf: str, default: int) -> int:
        """The same as a whole number above 0."""
        value = self.value(leaf)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UsageMistake(
                f"--{leaf} {value!r} in args= of llm_server: expected a whole number of at least 1."
            )
        return value

    def laid_over(self, config: Mapping[str, Json]) -> dict[str, Json]:
        """``config`` with what was given in its place."""
        whole: dict[str, Any] = copy.deepcopy(dict(config))
        sections = dict(_sections(whole))
        for name, value in self._given.items():
            section, _, leaf = name.rpartition(".")
            _check_leaf(sections, name, leaf, value)
            _section(sections, section, leaf)[leaf] = value
        return whole


def _pairs(args: Sequence[str]) -> Iterator[tuple[str, Json]]:
    words = iter(args)
    for word in words:
        name, assigned, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not name:
            raise UsageMistake(
                f"{word!r} in args= of llm_server: MindIE takes settings of its config.json, "
                'written as flags: "--maxBatchSize", "64" or "--ScheduleConfig.maxBatchSize=64".'
            )
        text = value if assigned else next(words, None)
        if text is None:
            raise UsageMistake(f"{word} in args= of llm_server has no value.")
        yield name, text if name.rpartition(".")[2] in _STRINGS else _parsed(text)


def _parsed(text: str) -> Json:
    """JSON where it is some, else the text itself."""
    try:
        value: Json = json.loads(text)
    except ValueError:
        return text
    return value


def _sections(value: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every section by its path. Of the list of models there is one."""
    for name, held in value.items():
        below = held[0] if isinstance(held, list) and held and isinstance(held[0], dict) else held
        if isinstance(below, dict) and name != "models":
            where = f"{path}.{name}" if path else name
            yield where, below
            yield from _sections(below, where)


def _check_leaf(sections: Mapping[str, dict[str, Any]], name: str, leaf: str, value: Json) -> None:
    """A whole section would take the place of what only the plugin may say."""
    held = [section for path, section in sections.items() if path.rpartition(".")[2] == leaf]
    if not held:
        return
    first = value[0] if isinstance(value, list) and value else value
    asked = [*(first if isinstance(first, dict) else ()), *held[0]]
    setting = next(each for each in asked if each not in _RESERVED)
    raise UsageMistake(
        f"--{name} in args= of llm_server is a whole section: give its settings one by one, such "
        f"as --{leaf}.{setting}."
    )


def _section(sections: Mapping[str, dict[str, Any]], asked: str, leaf: str) -> dict[str, Any]:
    if asked:
        paths = [path for path in sections if path == asked or path.endswith(f".{asked}")]
        if paths:
            return sections[paths[0]]
        known = [path.rpartition(".")[2] for path in sections]
        raise UsageMistake(
            f"--{asked}.{leaf} in args= of llm_server: MindIE's config.json has no section "
            f"{asked!r}.{nearest(asked, known)}"
        )
    holding = [section for section in sections.values() if leaf in section]
    if holding:
        return holding[0]
    known = [name for section in sections.values() for name in section if name not in _RESERVED]
    raise UsageMistake(
        f"--{leaf} in args= of llm_server is no setting that is set by default."
        f"{nearest(leaf, known)} Another one needs its section, such as --ScheduleConfig.{leaf}."
    )
