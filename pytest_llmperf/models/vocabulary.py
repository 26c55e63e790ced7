"""A byte-level BPE tokenizer, written by hand: bytes, merges learnt from a word list, and the
special tokens of DeepSeek-R1."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import pairwise

from pytest_llmperf.records import Json

BOS = "<｜begin▁of▁sentence｜>"
EOS = "<｜end▁of▁sentence｜>"
PAD = "<｜▁pad▁｜>"
USER = "<｜User｜>"
ASSISTANT = "<｜Assistant｜>"
THINK = "<think>"
END_THINK = "</think>"

#: The first three ids are R1's own; the other special tokens close the vocabulary, as in R1.
_FIRST = (BOS, EOS, PAD)
_LAST = (USER, ASSISTANT, THINK, END_THINK)
#: Marked special: left out of the text. The thinking marks are ordinary added tokens, as in R1.
_HIDDEN = frozenset({BOS, EOS, PAD, USER, ASSISTANT})

#: A multiple of 64, so that engines pad nothing and every id has a text.
VOCAB_SIZE = 1024
BOS_ID, EOS_ID, PAD_ID = 0, 1, 2

#: How R1 begins a conversation and hands over to the model, thinking first.
CHAT_TEMPLATE = (
    "{%- set ns = namespace(system='') -%}"
    "{%- for m in messages if m['role'] == 'system' -%}"
    "{%- set ns.system = m['content'] -%}"
    "{%- endfor -%}"
    "{{- bos_token + ns.system -}}"
    "{%- for m in messages -%}"
    "{%- if m['role'] == 'user' -%}{{- '<｜User｜>' + m['content'] -}}"
    "{%- elif m['role'] == 'assistant' and m['content'] -%}"
    "{{- '<｜Assistant｜>' + m['content'].split('</think>')[-1] + eos_token -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<｜Assistant｜><think>\\n' -}}{%- endif -%}"
)

_WORDS = """
the of and to a in that is was he for it with as his on be at by had not are but from or have an
they which one you were her all she there would their we him been has when who will more no if out
so said what up its about into than them can only other new some could time these two may then do
first any my now such like our over man me even most made after also did many before must through
years where much your way well down should because each just those people how too little state
good very make world still own see men work long get here between both life being under never day
same another know while last might us great old year off come since against go came right used
take three let think wait so therefore hmm okay maybe check again sum equals number answer
question problem find step first second third next then finally hence thus given need compute
value result solve equation user asks want means consider case prove show true false follow
because reason thinking simple idea multiply divide add subtract product fraction square root
function variable point line angle circle area length width height speed distance time rate cost
price total half double difference ratio server token model batch cache memory latency throughput
request response stream prompt output input code test loop list string index array return class
error run start stop write read file data table water light house city country river mountain road
tree stone paper glass metal horse bird fish dog music story letter word page book school teacher
student friend mother father child family morning evening night summer winter spring autumn red
green blue white black small large short young early late fast slow high low open close begin end
keep leave bring carry hold turn move play sing walk speak listen hear look watch feel touch taste
sleep wake eat drink buy sell pay build break mend
"""


def byte_symbols() -> list[str]:
    """The printable stand-in of each of the 256 bytes that byte-level BPE writes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(byte if byte in set(printable) else next(spare)) for byte in range(256)]


@cache
def merges() -> tuple[tuple[str, str], ...]:
    """The merges that fill the vocabulary, learnt from the word list, where earlier words count
    for more; the most frequent pair first, ties to the one that sorts first."""
    space = byte_symbols()[32]
    words = _WORDS.split()
    wanted = VOCAB_SIZE - 256 - len(_FIRST) - len(_LAST)
    corpus = [(list(space + word), len(words) - rank) for rank, word in enumerate(words)]
    corpus += [(list(word.capitalize()), 1) for word in words]
    learnt: list[tuple[str, str]] = []
    while len(learnt) < wanted:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, weight in corpus:
            for pair in pairwise(word):
                pairs[pair] += weight
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        learnt.append(best)
        corpus = [(_merged(word, best), weight) for word, weight in corpus]
    return tuple(learnt)


def _merged(word: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for symbol in word:
        if out and (out[-1], symbol) == pair:
            out[-1] += symbol
        else:
            out.append(symbol)
    return out


@cache
def tokens() -> tuple[str, ...]:
    """Every token by id, in the spelling of ``tokenizer.json``."""
    learnt = ["".join(pair) for pair in merges()]
    return (*_FIRST, *byte_symbols(), *learnt, *_LAST)


def token_id(token: str) -> int:
    return tokens().index(token)


def is_added(token: str) -> bool:
    """Whether it is found in a text as it stands, and not made by merges."""
    return token in _FIRST or token in _LAST


def is_hidden(token: str) -> bool:
    """Whether it is marked special, and so left out of the text."""
    return token in _HIDDEN


def speakable() -> list[bool]:
    """Per id, whether the model may say it: printable ASCII, the end of the text and of thinking.

    Half a character or a control code would make the text of a stream lag behind its tokens.
    """
    plain = {byte_symbols()[byte] for byte in (10, *range(32, 127))}
    said = {EOS, END_THINK}
    special = set(_FIRST) | set(_LAST)
    return [t in said if t in special else set(t) <= plain for t in tokens()]


def _added(token: str) -> dict[str, Json]:
    return {
        "id": token_id(token),
        "content": token,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": token not in _HIDDEN,
        "special": token in _HIDDEN,
    }


def tokenizer_json() -> dict[str, Json]:
    """``tokenizer.json``: byte-level BPE that puts the begin mark before a plain text."""
    byte_level: dict[str, Json] = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    begin: dict[str, Json] = {"SpecialToken": {"id": BOS, "type_id": 0}}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(token) for token in (*_FIRST, *_LAST)],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [begin, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [
                begin,
                {"Sequence": {"id": "A", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 1}},
            ],
            "special_tokens": {BOS: {"id": BOS, "ids": [BOS_ID], "tokens": [BOS]}},
        },
        "decoder": dict(byte_level),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: number for number, token in enumerate(tokens())},
            "merges": [f"{left} {right}" for left, right in merges()],
        },
    }


def tokenizer_config(max_positions: Json) -> dict[str, Json]:
    """``tokenizer_config.json``."""
    return {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": BOS,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": EOS,
        "model_max_length": max_positions,
        "pad_token": PAD,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": PAD,  # else some tokenizer classes add one of their own, past the last id
    }
