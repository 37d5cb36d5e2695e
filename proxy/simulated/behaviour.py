"""How the simulated provider behaves, read from the model's name.

    simulated[-embedding][-slow][-<fault>][-first<ms>ms][-every<ms>ms][-<n>chunks]

Parts may stand in any order, each at most once. `slow` is `first500ms-every20ms`. Faults:

    400 401 403 408 409 429 500 502 503 529   that status, in OpenAI's envelope
    hang        no byte ever comes             drop        the connection breaks before the head
    stall       half of the answer, then none  reset       half of the answer, then the connection breaks
    malformed   the answer is not HTTP         truncated   half of a stream, then a clean end without its last events
"""

import re
from dataclasses import dataclass
from typing import Final

from proxy.simulated.refusals import STATUSES

MODELS: Final = ("simulated", "simulated-slow", "simulated-embedding")
"""The names that the list of models shows; every other name of the grammar is answered too."""

DELAY_MS_MAX: Final = 600_000
CHUNKS_MAX: Final = 10_000
NAME_CHARS_MAX: Final = 128

_SLOW_FIRST_MS: Final = 500
_SLOW_EVERY_MS: Final = 20
_BREAKS: Final = frozenset({"hang", "drop", "stall", "reset", "malformed", "truncated"})
_FIRST = re.compile(r"first([0-9]{1,6})ms")
_EVERY = re.compile(r"every([0-9]{1,6})ms")
_CHUNKS = re.compile(r"([0-9]{1,5})chunks")


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a model's name asks for."""

    first_ms: int = 0  # before the first byte
    every_ms: int = 0  # before each further event of a stream
    chunks: int | None = None  # pieces of text in the answer; None: as many as it has words
    status: int | None = None  # an error instead of an answer
    breaks: str | None = None  # one of the faults that are no status


def parse_model(model: str) -> Behaviour | None:
    """Read a model's name; None where it is not of the grammar, or beyond its bounds."""
    if len(model) > NAME_CHARS_MAX:
        return None
    head, *parts = model.split("-")
    if head != "simulated":
        return None
    found: dict[str, int | str] = {}
    for part in parts:
        for name, value in _meaning(part):
            if name in found:
                return None
            found[name] = value
    return _checked(found)


def _meaning(part: str) -> list[tuple[str, int | str]]:
    if part == "embedding":
        return [("embedding", 1)]
    if part == "slow":
        return [("first_ms", _SLOW_FIRST_MS), ("every_ms", _SLOW_EVERY_MS)]
    if part in _BREAKS:
        return [("fault", part)]
    if part.isascii() and part.isdigit():
        return [("fault", int(part))]
    for name, pattern in (("first_ms", _FIRST), ("every_ms", _EVERY), ("chunks", _CHUNKS)):
        if match := pattern.fullmatch(part):
            return [(name, int(match[1]))]
    return [("unknown", part)]


def _checked(found: dict[str, int | str]) -> Behaviour | None:
    first_ms, every_ms = int(found.get("first_ms", 0)), int(found.get("every_ms", 0))
    chunks = int(found["chunks"]) if "chunks" in found else None
    fault = found.get("fault")
    if "unknown" in found or max(first_ms, every_ms) > DELAY_MS_MAX:
        return None
    if chunks is not None and not 1 <= chunks <= CHUNKS_MAX:
        return None
    if isinstance(fault, int):
        return Behaviour(first_ms, every_ms, chunks, status=fault) if fault in STATUSES else None
    return Behaviour(first_ms, every_ms, chunks, breaks=fault)
