"""Does ``on="RTX 4090"`` mean this accelerator? Aliases, regular expressions, or anything."""

from __future__ import annotations

import re

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.records import Accelerator, Vendor

_EXACT, _FOUND, _ANY = 2, 1, 0

#: Words that any product of a vendor may carry or lack.
_NOISE = re.compile(
    r"\b(?:nvidia|geforce|tesla|amd|radeon|instinct|huawei|sambanova|intel|arc|data center"
    r"|gpu|npu|graphics|generation)\b"
    r"|\((?:tm|r|c)\)|[™®©]"
)
#: The form a product comes in. An alias without one means all of them.
_FORM = re.compile(r"sxm\d*|pcie|nvl|oam|vf|ac|hbm\d\w*|\d+gb")
#: Products that are on an SXM module unless their name says otherwise.
_SXM = frozenset({"h100", "h800", "h200", "h20", "b100", "b200", "b300"})

#: The families whose aliases we know. A name of such a family is an alias and never a regular
#: expression, so that "RTX 4090" is not found in "RTX 4090 D" or "RTX 4090 Laptop GPU".
FAMILIES: tuple[str, ...] = (
    r"[gr]tx \d{3,4}(?: (?:ti|super|d|laptop|max q))*",
    r"(?:rtx|quadro)(?: (?:pro|a))? ?\d{4}(?: (?:ada|blackwell|server|workstation|edition))*",
    r"[ablhtpv]\d{1,3}[gs]?",
    r"g[bh]\d{3}",
    r"rx \d{4}(?: (?:xt|xtx|gre|m))*",
    r"mi\d{2,3}[axp]?",
    r"(?:pro )?w\d{4}",
    r"(?:ai pro )?r9700",
    r"ascend \d{3}[abc]?\d?",
    r"(?:pro )?[ab]\d{2,3}m?",
    r"(?:max|flex) \d{3,4}[a-z]?",
    r"sn\d{2}l?",
)
_FAMILY = re.compile("|".join(f"(?:{pattern})" for pattern in FAMILIES))
#: "Ascend910B" and "910B" are written too.
_ASCEND = re.compile(r"^(?:ascend ?(?=\d)|(?=910[a-c]))")
#: The variants of one Ascend generation are sold under its name.
_ASCEND_VARIANT = re.compile(r"(ascend \d{3}[a-c])(?:\d?c?)(?: \d)?")

_VENDORS: dict[str, frozenset[Vendor]] = {
    "nvidia": frozenset({"nvidia"}),
    "cuda": frozenset({"nvidia"}),
    "amd": frozenset({"amd"}),
    "rocm": frozenset({"amd"}),
    "ascend": frozenset({"ascend"}),
    "npu": frozenset({"ascend"}),
    "intel": frozenset({"intel"}),
    "xpu": frozenset({"intel"}),
    "gpu": frozenset({"nvidia", "amd", "intel"}),
}


def match_rank(on: str | None, accelerator: Accelerator) -> int | None:
    """How well ``on`` names the accelerator: 2 its alias, 1 a regular expression found in its
    product name (or only its kind: "gpu", "nvidia"), 0 for ``None``; ``None`` if not at all.

    Raises :class:`~pytest_llmperf.errors.UsageMistake` for an invalid regular expression.
    """
    if on is None:
        return _ANY
    word = on.strip().lower()
    if word == "cpu":
        return _EXACT if accelerator.vendor == "cpu" else None
    if word in _VENDORS:
        return _FOUND if accelerator.vendor in _VENDORS[word] else None
    if _is_alias(on, accelerator.product):
        return _EXACT
    if _FAMILY.fullmatch(_split(on)[0]):
        return None
    return _FOUND if _search(on, accelerator.product) else None


def _is_alias(alias: str, product: str) -> bool:
    wanted, wanted_forms = _split(alias)
    name, forms = _split(product)
    if name in _SXM and not forms & {"pcie", "nvl"}:
        forms |= {"sxm"}
    return bool(wanted) and wanted in (name, _generation(name)) and wanted_forms <= forms


def _generation(name: str) -> str | None:
    """ "ascend 910b" for "ascend 910b3"."""
    match = _ASCEND_VARIANT.fullmatch(name)
    return match[1] if match else None


def _split(text: str) -> tuple[str, frozenset[str]]:
    """The bare name of a product, and the form words that came with it."""
    plain = _NOISE.sub(" ", text.lower().replace("-", " ").replace("_", " "))
    words = plain.split()
    forms = {"sxm" if word.startswith("sxm") else word for word in words if _FORM.fullmatch(word)}
    name = " ".join(word for word in words if not _FORM.fullmatch(word))
    name = _ASCEND.sub("ascend ", name)
    return name, frozenset(forms)


def _search(pattern: str, product: str) -> bool:
    try:
        return re.search(pattern, product, re.IGNORECASE) is not None
    except re.error as error:
        raise UsageMistake(
            f"on={pattern!r} is neither the name of an accelerator nor a valid regular "
            f"expression: {error}."
        ) from error
