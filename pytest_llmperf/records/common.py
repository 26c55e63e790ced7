"""Words that several groups of records share."""

from __future__ import annotations

from typing import Literal

Scalar = str | int | float | bool | None
#: What a server reports about its own arguments: free-form, recorded, never interpreted.
Json = Scalar | list["Json"] | dict[str, "Json"]

Vendor = Literal["nvidia", "amd", "ascend", "intel", "cpu", "remote"]
Direction = Literal["higher", "lower"]
VerdictWord = Literal["pass", "fail", "inconclusive"]
#: Of an A/B comparison; what is measured alone is a candidate.
Side = Literal["candidate", "reference"]
#: How the numbers of a model are kept: a directory as on the hub, or the one file of llama.cpp.
WeightFormat = Literal["safetensors", "gguf"]
