"""What the fake server is told to do, and the truth it keeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

Fault = Literal[
    "error", "cut", "http_500", "stall", "drip", "garbage", "no_finish", "no_done", "short",
    "long", "empty", "no_usage", "reset", "http_429", "http_503", "redirect", "wrong_type",
    "half_json", "infinite", "abort",
]  # fmt: skip
FAULTS: tuple[str, ...] = get_args(Fault)
Usage = Literal["continuous", "final", "none"]
Api = Literal["chat", "completions", "generate"]
ProfilerKind = Literal["works", "refuses", "hangs"]

#: What the pretended chat template adds to the bytes of the messages: two tokens before the
#: first message, three after the last.
CHAT_OVERHEAD_TOKENS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What the server does. Times in ms; a token is one word out, and one byte in.

    ``jitter`` is the relative standard deviation of each gap, ``launch_cv`` that of the speed of
    a whole launch (drawn once, from ``seed`` if given). ``reasoning_fraction`` of the tokens come
    as ``reasoning_content``, or between ``<think>`` tags with ``think_tags`` and wherever the API
    has no other place for them. ``incremental`` makes ``/generate`` stream only what is new.

    ``fault`` befalls every ``fault_every``-th generation request, the first ``fault_from`` spared;
    those that come in the middle wait for ``fault_after_tokens``. ``die_after`` ends the process
    with ``die_status`` on that many generation requests; ``fail_start`` is printed instead of
    starting. ``usage`` is how the server reports tokens when asked to.

    ``prefix_cache`` remembers the prompts of the last ``cache_capacity`` tokens, in pages of
    ``cache_page``. ``accept_length`` is the mean number of tokens that a step of speculative
    decoding is said to give. ``api_key`` is asked of everybody, ``close_each`` closes the
    connection after every response, ``drop_each`` does so without a word. Without
    ``content_length`` a response that is not streamed does not say how long it is.

    ``answers`` is a file of JSON lines: a prompt that holds a ``question`` of it is answered with
    the words of its ``answer``. ``disturb`` is the share of words that come out as others than they
    would. ``logprob_shift`` is taken from every log-probability, ``logprob_noise`` the standard
    deviation of what each launch adds to each of them.

    ``profiler`` is what ``/start_profile`` and ``/stop_profile`` find: one that works and leaves a
    trace, that refuses to start, or that hangs when it is to stop.
    """

    model: str = "sim"
    ttft_ms: float = 20.0
    itl_ms: float = 2.0
    jitter: float = 0.0
    tokens_per_chunk: int = 1
    reasoning_fraction: float = 0.0
    think_tags: bool = False
    role_first: bool = False
    usage: Usage = "continuous"
    fault: Fault | None = None
    fault_every: int = 1
    fault_from: int = 0
    fault_after_tokens: int = 2
    launch_cv: float = 0.0
    seed: int | None = None
    max_context_tokens: int = 1_000_000
    prefix_cache: bool = False
    tokenizer: bool = True
    die_after: int | None = None
    die_status: int = 1
    fail_start: str | None = None
    start_delay_s: float = 0.0
    truth_log: str | None = None
    incremental: bool = False
    cache_page: int = 1
    cache_capacity: int = 262_144
    accept_length: float | None = None
    api_key: str | None = None
    close_each: bool = False
    drop_each: bool = False
    content_length: bool = True
    answers: str | None = None
    disturb: float = 0.0
    profiler: ProfilerKind | None = None
    logprob_shift: float = 0.0
    logprob_noise: float = 0.0

    def __post_init__(self) -> None:
        if self.fault is not None and self.fault not in FAULTS:
            raise ValueError(f"fault: {self.fault!r} is none of {', '.join(FAULTS)}")
        if self.accept_length is not None and self.accept_length < 1:
            raise ValueError("accept_length: a step gives one token at least")
        for name in ("tokens_per_chunk", "cache_page", "cache_capacity", "fault_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more")


@dataclass(slots=True, kw_only=True)
class SentChunk:
    """A piece of a response: when it was written (ns), the tokens in it, and of what kind."""

    at_ns: int
    tokens: int
    kind: str


@dataclass(slots=True, kw_only=True)
class Truth:
    """What happened to one generation request, as the server knows it.

    ``fault`` is what befell it, ``cached_tokens`` how many tokens of its prompt were in the
    pretended prefix cache, ``asked_tokens`` how many it wanted. ``digest`` is equal for equal
    prompts that one process was sent: another one's is of another seed.
    """

    index: int
    received_ns: int
    prompt_tokens: int
    fault: str | None
    chunks: list[SentChunk] = field(default_factory=list)
    ended_ns: int | None = None
    api: Api = "chat"
    stream: bool = True
    cached_tokens: int = 0
    asked_tokens: int = 0
    digest: int = 0

    @property
    def tokens(self) -> int:
        """Output tokens that left the server in a form that can be read."""
        return sum(chunk.tokens for chunk in self.chunks)
