"""What the simulated provider does, as values: a status, headers, and steps in time."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeAlias

from proxy.core import jsonio
from proxy.core.types import Headers

Document: TypeAlias = Mapping[str, Any]
"""A JSON object of the caller's, of which nothing is known yet."""

Reply: TypeAlias = bytes | list[bytes]
"""What an endpoint answers: one JSON body, or the events of a stream in order."""

DONE: Final = b"data: [DONE]\n\n"


class Fault(Enum):
    """What goes wrong at a step."""

    HANG = "hang"  # nothing more comes, and the connection stays open
    RESET = "reset"  # the connection breaks
    MALFORMED = "malformed"  # what comes is not HTTP


@dataclass(frozen=True, slots=True)
class Stamp:
    """What differs between two answers to the same request: when it was, and which one."""

    at_s: int  # seconds since the Unix epoch, UTC
    unique: str  # 32 hex digits


@dataclass(frozen=True, slots=True)
class Step:
    """A chunk of the body, or a fault, some time after the step before it."""

    delay_ms: int
    chunk: bytes = b""
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Script:
    """One answer, ready to be played. The head leaves together with the first step's chunk,
    so a fault in the first step is a fault before the head."""

    status: int
    headers: Headers
    steps: tuple[Step, ...]

    @property
    def is_chunked(self) -> bool:
        """True for a stream: its length is not known when the head leaves."""
        return (b"transfer-encoding", b"chunked") in self.headers

    @property
    def is_instant(self) -> bool:
        """True where nothing waits and nothing goes wrong."""
        return all(step.delay_ms == 0 and step.fault is None for step in self.steps)


def event(document: Mapping[str, object]) -> bytes:
    """One event of a chat stream (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    return b"data: " + jsonio.encode(document) + b"\n\n"


def named_event(document: Mapping[str, object]) -> bytes:
    """One event of a Responses stream: its name is the document's `type`."""
    return b"event: " + str(document["type"]).encode() + b"\n" + event(document)
