"""Server-sent events, cut out of bytes as they arrive.

Pure. WHATWG HTML, section 9.2: lines end in LF, CRLF or CR, mixed as they please; an empty
line ends an event; a byte order mark may stand before the first.
"""

import re
from typing import Final

_BOM: Final = b"\xef\xbb\xbf"
# Atomic groups: CRLF is one line end, never two.
EMPTY_LINE: Final = re.compile(rb"(?>\r\n|\r|\n)(?>\r\n|\r|\n)")
LINE_END_BYTES_MAX: Final = 3  # of an empty line whose last byte has not arrived
_LF: Final = 10


def next_event_end(body: bytes, begins: int) -> int:
    """Where the event ends that begins here, its empty line included; the end of the body, if none is left."""
    found = EMPTY_LINE.search(body, begins)
    return len(body) if found is None else found.end()


class EventSplitter:
    """Gives back each event once it is complete, however the stream is cut into chunks.

    What is held is bounded: an event of more than `event_bytes_max` bytes sets `overflowed`,
    and from then on nothing is held or given back. `between_events` is True while nothing is
    held and the next byte begins an event.
    """

    __slots__ = ("_at_start", "_event_bytes_max", "_held", "between_events", "overflowed")

    def __init__(self, event_bytes_max: int) -> None:
        self._event_bytes_max = event_bytes_max
        self._held = bytearray()
        self._at_start = True
        self.between_events = False  # a byte order mark may come first
        self.overflowed = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The events that this chunk completes: each one's own bytes, without the line end of
        its last line and without the empty line. A block of comments is an event too."""
        if self.is_whole(chunk) and b"\n\n\n" not in chunk and chunk[0] != _LF:
            return chunk[:-2].split(b"\n\n")
        return self._feed_slowly(chunk)

    def is_whole(self, chunk: bytes) -> bool:
        """True for what providers send: whole events and nothing else, a line feed at each line's end. Such a chunk
        need not be fed."""
        if not self.between_events:
            if not self._at_start or self._held or _BOM.startswith(chunk[:1]):
                return False
            self._at_start, self.between_events = False, True
        return chunk.endswith(b"\n\n") and b"\r" not in chunk and len(chunk) <= self._event_bytes_max

    def _feed_slowly(self, chunk: bytes) -> list[bytes]:
        if self.overflowed:
            return []
        held = self._held
        searched_bytes = max(0, len(held) - LINE_END_BYTES_MAX)
        held += chunk
        if self._at_start:
            if len(held) < len(_BOM) and _BOM.startswith(held):
                return []
            self._at_start = False
            searched_bytes = 0
            if held.startswith(_BOM):
                del held[: len(_BOM)]
        events: list[bytes] = []
        start = 0
        has_cr = b"\r" in held  # without one there is one kind of empty line, which is found ten times as fast
        while (end := _empty_line(held, searched_bytes, has_cr=has_cr)) is not None:
            # Line ends before the first line: more empty lines, or the LF of a CRLF cut in two.
            event = bytes(held[start : end[0]]).lstrip(b"\r\n")
            if len(event) > self._event_bytes_max:
                return self._overflow(events)
            if event:
                events.append(event)
            start = searched_bytes = end[1]
        del held[:start]
        self.between_events = not held
        if len(held) > self._event_bytes_max and len(held.strip(b"\r\n")) > self._event_bytes_max:
            return self._overflow(events)
        return events

    def _overflow(self, events: list[bytes]) -> list[bytes]:
        self.overflowed = True
        self.between_events = False
        self._held.clear()
        return events


def _empty_line(held: bytearray, begins: int, *, has_cr: bool) -> tuple[int, int] | None:
    """Where the next one begins and ends."""
    if has_cr:
        found = EMPTY_LINE.search(held, begins)
        return None if found is None else found.span()
    at = held.find(b"\n\n", begins)
    return None if at < 0 else (at, at + 2)


def event_name(event: bytes) -> bytes:
    """The value of an event's last `event:` field; empty where there is none."""
    values = _values(event, b"event")
    return values[-1] if values else b""


def event_data(event: bytes) -> bytes:
    """The values of an event's `data:` fields, joined by line feeds."""
    if event.startswith(b"data: ") and b"\n" not in event and b"\r" not in event:
        return event[6:]
    return b"\n".join(_values(event, b"data"))


def _values(event: bytes, wanted: bytes) -> list[bytes]:
    values: list[bytes] = []
    for line in event.splitlines():  # of bytes: at LF, CRLF and CR alone
        name, _, value = line.partition(b":")
        if name == wanted:
            values.append(value.removeprefix(b" "))
    return values
