"""Before anything is measured: learn from the server how to ask for exact lengths.

What costs one token is found by asking the server itself (its tokenize call, else the prompt
tokens that it reports for one-token answers), and the whole workload is tried once, so that what
a server will refuse is known, in its own words, before a window opens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from pytest_llmperf.errors import ServerError
from pytest_llmperf.load.declare.lengths import bounds
from pytest_llmperf.load.planned import Asked, Turn
from pytest_llmperf.load.read.decode import decode
from pytest_llmperf.load.read.events import error_in, error_message
from pytest_llmperf.load.send.connect import Origin
from pytest_llmperf.load.send.wire import Exchange
from pytest_llmperf.records import Api, Json, TokenizeCall, Workload

from .asking import USAGE_LEVELS, Prompt, Target, UsageLevel, api_path, body, server_path
from .calls import Calls
from .prompts import WORDS, IdPool, Units, id_lists, texts
from .tokens import Count, Ids, learn_pool, learn_units

_CALL_TIMEOUT_S = 60.0
_POLL_S = 0.005
_CORRECTIONS = 3
_TRIAL_TOKENS = 8
#: How long a server may think before it refuses what it does not stream.
_REFUSAL_S = 2.0
#: APIs that take a prompt as token ids.
_TAKING_IDS: tuple[Api, ...] = ("completions", "generate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to build a workload's requests for one server.

    ``overhead`` is what the server puts around a text, in tokens, and ``message_overhead`` what a
    further pair of messages (an answer, a question) costs beyond their units; both count the lead
    of each text. ``units`` or ``pool``, whichever the API takes, is what prompts are made of;
    neither is there for prompts that stand in a file. ``keeps_alive`` is false for servers that
    close the connection after an answer, announced or not: a request written on it would be lost.
    """

    usage: UsageLevel
    overhead: int = 0
    message_overhead: int = 0
    units: Units | None = None
    pool: IdPool | None = None
    keeps_alive: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lengths:
    """Of a workload's largest request, in tokens; ``None`` where nobody knows."""

    input_tokens: int | None
    output_tokens: int | None

    def __str__(self) -> str:
        known = (self.input_tokens, "in"), (self.output_tokens, "out")
        return ", ".join(f"{count} tokens {way}" for count, way in known if count is not None)


class Rehearsal:
    """Learns recipes; what is true of the server, not of a workload, is learnt once."""

    def __init__(self, origin: Origin, target: Target) -> None:
        self._origin = origin
        self._target = target
        self._units: Units | None = None
        self._pool: IdPool | None = None

    async def recipe(self, workload: Workload, longest: tuple[int, int] | None = None) -> Recipe:
        """The recipe for one workload. Raises :class:`ServerError` in the server's own words.

        ``longest`` is the input and output length of its largest request, where the workload
        itself does not say.
        """
        calls = Calls(self._origin, self._target)
        trial = _Trial(workload, calls, self._origin, self._target, _lengths(workload, longest))
        try:
            if workload.source is not None and workload.source.kind != "trace" and not longest:
                recipe = Recipe(usage="continuous")
                recipe = replace(recipe, keeps_alive=await trial.keeps_alive(recipe))
                return await trial.whole(recipe)
            recipe = await self._learn(calls, trial)
            recipe = await trial.corrected(recipe)
            if workload.turns > 1 and workload.api == "chat":
                recipe = replace(recipe, message_overhead=await trial.message_overhead(recipe))
            recipe = replace(recipe, keeps_alive=await trial.keeps_alive(recipe))
            return await trial.whole(recipe)
        finally:
            await calls.close()

    async def _learn(self, calls: Calls, trial: _Trial) -> Recipe:
        tokenize = self._target.tokenize
        ids = self._ids_by(calls, tokenize) if tokenize else None
        if trial.workload.api in _TAKING_IDS and ids is not None:
            if self._pool is None:
                self._pool = await learn_pool(ids)
            return Recipe(usage="continuous", pool=self._pool)
        if self._units is None:
            count = _count_by(ids) if ids else trial.prompt_tokens
            self._units = await learn_units(count, ids)
        units = self._units
        prompt = texts(units, _TRIAL_TOKENS, seed=0, count=1, part="warmup")[0]
        overhead = await trial.prompt_tokens(prompt) - _TRIAL_TOKENS
        return Recipe(usage="continuous", units=units, overhead=overhead)

    def _ids_by(self, calls: Calls, tokenize: TokenizeCall) -> Ids:
        async def ids(text: str) -> list[int]:
            return await self._ids(calls, tokenize, text)

        return ids

    async def _ids(self, calls: Calls, tokenize: TokenizeCall, text: str) -> list[int]:
        content: dict[str, Json] = {tokenize.text_field: text, **tokenize.body}
        path = server_path(self._origin, tokenize.path)
        status, data = await calls.post(path, content, _CALL_TIMEOUT_S)
        if status != 200:
            raise ServerError(f"{path} answered HTTP {status}: {error_message(data)}")
        try:
            return msgspec.convert(msgspec.json.decode(data)[tokenize.tokens_field], list[int])
        except (msgspec.DecodeError, msgspec.ValidationError, KeyError, TypeError) as error:
            raise ServerError(
                f"{path} gave no list of token ids under {tokenize.tokens_field!r}: {error}"
            ) from None


class _Trial:
    """Asks on behalf of one workload."""

    def __init__(
        self, workload: Workload, calls: Calls, origin: Origin, target: Target, lengths: _Lengths
    ) -> None:
        self.workload = workload
        self._calls = calls
        self._target = target
        self._path = api_path(origin, workload.api)
        self._lengths = lengths

    async def prompt_tokens(self, prompt: Prompt) -> int:
        """What the server counts for a prompt, by an answer of one token."""
        return await self._counted(self._body(prompt, max_tokens=1, stream=False))

    async def _counted(self, content: Json) -> int:
        status, data = await self._calls.post(self._path, content, self.workload.request_timeout_s)
        if status != 200:
            raise self._refused(f"HTTP {status}: {error_message(data)}")
        try:
            return _prompt_tokens_in(data, self.workload.api)
        except msgspec.DecodeError as error:
            said = error_in(data)
            if said is not None:
                raise self._refused(said) from None
            raise ServerError(
                f"the server does not say how many prompt tokens it counted: {error}",
                cause="its answer has no count of prompt tokens",
                remedy="use an engine or an option of it that reports usage",
            ) from None

    async def corrected(self, recipe: Recipe) -> Recipe:
        """Ask with a prompt of full length, and take up what it is off by."""
        asked = self._lengths.input_tokens
        if asked is None:
            return recipe
        for _ in range(_CORRECTIONS):
            if asked <= recipe.overhead:
                raise ServerError(
                    f"input_tokens={asked} is too small: what the server puts around a "
                    f"prompt alone takes {recipe.overhead} tokens",
                    remedy=f"ask for at least {recipe.overhead + 1} input tokens",
                )
            error = await self.prompt_tokens(_prompt(recipe, asked, 0)) - asked
            if not error or recipe.pool is not None:
                break
            recipe = replace(recipe, overhead=recipe.overhead + error)
        return recipe

    async def message_overhead(self, recipe: Recipe) -> int:
        """What one more pair of messages adds to the tokens of its units.

        Two conversations are compared that differ by a pair in their middle, because a template
        may treat the first or the last message in its own way.
        """
        if recipe.units is None:
            raise ValueError("a conversation is made of texts")
        said = texts(recipe.units, _TRIAL_TOKENS, seed=2, count=5, part="warmup")
        shorter, longer = [await self._counted(self._conversation(said[:size])) for size in (3, 5)]
        return longer - shorter - 2 * _TRIAL_TOKENS

    def _conversation(self, said: Sequence[str]) -> dict[str, Json]:
        roles = ("user", "assistant")
        content = self._body("", max_tokens=1, stream=False)
        content["messages"] = [
            {"role": roles[at % 2], "content": text} for at, text in enumerate(said)
        ]
        return content

    async def whole(self, recipe: Recipe) -> Recipe:
        """Send the workload's largest request up to its first event, asking for ever less usage."""
        asked = self._lengths.input_tokens
        prompt = _prompt(recipe, asked if asked is not None else recipe.overhead + _TRIAL_TOKENS, 1)
        if not self.workload.stream:
            await self._try_unstreamed(prompt)
            return recipe
        levels: Sequence[UsageLevel] = USAGE_LEVELS
        if self.workload.api == "generate":  # which reports usage unasked
            levels = levels[:1]
        refusals = []
        for usage in levels:
            refusal = await self._refusal(self._body(prompt, usage=usage))
            if refusal is None:
                return replace(recipe, usage=usage)
            refusals.append(refusal)
        raise self._refused(refusals[0])

    async def keeps_alive(self, recipe: Recipe) -> bool:
        """Whether the connection outlives an answer such as the workload asks for."""
        prompt = _prompt(recipe, recipe.overhead + _TRIAL_TOKENS, 3)
        content = self._body(prompt, max_tokens=1, stream=self.workload.stream)
        return await self._calls.outlived(self._path, content, self.workload.request_timeout_s)

    async def _try_unstreamed(self, prompt: Prompt) -> None:
        """A refusal comes at once, streamed or not, while an answer in one piece takes its time.

        So a stream is asked for first; only if that is refused, perhaps for being one, is it
        asked for whole, and silence taken for consent.
        """
        await self.prompt_tokens(prompt)
        refusal = await self._refusal(self._body(prompt))
        if refusal is not None:
            refusal = await self._refusal(self._body(prompt, stream=False), within_s=_REFUSAL_S)
        if refusal is not None:
            raise self._refused(refusal)

    def _body(
        self,
        prompt: Prompt,
        *,
        usage: UsageLevel = "none",
        max_tokens: int | None = None,
        stream: bool = True,
    ) -> dict[str, Json]:
        output = self._lengths.output_tokens if max_tokens is None else max_tokens
        return body(
            self._target,
            self.workload,
            prompt,
            usage=usage,
            max_tokens=_TRIAL_TOKENS if output is None else output,
            stream=stream,
        )

    async def _refusal(self, content: Json, within_s: float | None = None) -> str | None:
        """Why the server does not begin to answer; ``None`` where it does, or where it is silent
        for ``within_s``."""
        connection = await self._calls.begin(self._path, content)
        exchange = connection.exchange
        try:
            async with asyncio.timeout(within_s or self.workload.request_timeout_s):
                while not exchange.ended_ns and b"\ndata: " not in b"".join(exchange.reads):
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            if within_s is not None:
                return None
            raise ServerError(
                f"the first event of workload {self.workload.name!r} did not come within "
                f"{self.workload.request_timeout_s:g} s",
                remedy="raise request_timeout_s, or ask for fewer input tokens",
            ) from None
        finally:
            connection.close()
        return self._refusal_in(exchange)

    def _refusal_in(self, exchange: Exchange) -> str | None:
        """Why the start of an answer is not one; ``None`` when it is."""
        output = self._lengths.output_tokens or _TRIAL_TOKENS
        asked = Asked(output_tokens=output, api=self.workload.api)
        row, _ = decode(exchange, Turn(index=0, payload=b"", asked=asked))
        if row.status != 200:
            return f"HTTP {row.status}: {row.detail}" if row.status else row.detail
        return row.detail if row.failure in ("stream_error", "aborted") else None

    def _refused(self, message: str) -> ServerError:
        remedy = "ask for less, or start it with a longer context"
        if self._lengths.input_tokens is not None and self._lengths.output_tokens is not None:
            total = self._lengths.input_tokens + self._lengths.output_tokens
            remedy = (
                f"if its context is shorter than {total} tokens, lower input_tokens or "
                f"output_tokens, or start it with a longer one"
            )
        largest = f" ({self._lengths})" if str(self._lengths) else ""
        return ServerError(
            f"the server refuses workload {self.workload.name!r}{largest}: {message}",
            remedy=remedy,
        )


def _lengths(workload: Workload, longest: tuple[int, int] | None) -> _Lengths:
    """Of the largest request: the last of the longest session."""
    if longest is not None:
        return _Lengths(input_tokens=longest[0], output_tokens=longest[1])
    spread = workload.length_spread
    output = workload.output_tokens and bounds(workload.output_tokens, spread)[1]
    if workload.input_tokens is None:
        return _Lengths(input_tokens=None, output_tokens=output)
    added = bounds(workload.turn_input_tokens, spread)[1] + (output or 0)
    total = bounds(workload.input_tokens, spread)[1] + (workload.turns - 1) * added
    return _Lengths(input_tokens=total, output_tokens=output)


def _prompt(recipe: Recipe, tokens: int, seed: int) -> Prompt:
    """A prompt that comes to ``tokens`` on the server, where the recipe knows how."""
    if recipe.pool is not None:
        return id_lists(recipe.pool, tokens, seed=seed, count=1, part="warmup")[0]
    if recipe.units is None:
        return " ".join(WORDS[:tokens])
    return texts(recipe.units, tokens - recipe.overhead, seed=seed, count=1, part="warmup")[0]


def _count_by(ids: Ids) -> Count:
    async def count(text: str) -> int:
        return len(await ids(text))

    return count


class _PromptTokens(msgspec.Struct):
    prompt_tokens: int


class _Answer(msgspec.Struct):
    usage: _PromptTokens


class _GeneratedAnswer(msgspec.Struct):
    meta_info: _PromptTokens


def _prompt_tokens_in(data: bytes, api: Api) -> int:
    if api == "generate":
        return msgspec.json.decode(data, type=_GeneratedAnswer).meta_info.prompt_tokens
    return msgspec.json.decode(data, type=_Answer).usage.prompt_tokens
