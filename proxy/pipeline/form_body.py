"""A form on its way through: held until its fields have decided, then passed on as it came.

The model's name may stand behind the files, so a form is held up to a bound. What is larger is
passed on piece by piece, and read on all the same: a field that would still decide then breaks
the attempt off, before the provider holds a whole form.
"""

from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Final

from proxy.dialects.form import Edit, FormReader, spliced
from proxy.upstream.client import ArrivingBody, RequestBody

_PIECE_BYTES: Final = 65_536
WHOLE_BYTES_MAX: Final = 1_048_576
"""A form up to this goes upstream in one piece; a copy of a larger one would cost too much."""


class FormBody:
    """One form. It can be sent once: what was sent is held no longer."""

    __slots__ = ("_announced_bytes", "_arriving", "_held", "_reader", "_tail", "held_bytes", "is_whole")

    def __init__(self, reader: FormReader, arriving: AsyncIterator[bytes], announced_bytes: int | None) -> None:
        self._reader = reader
        self._arriving = arriving
        self._announced_bytes = announced_bytes
        self._held: deque[bytes] = deque()
        self._tail = bytearray()  # small pieces, put together: each object costs more than its bytes
        self.held_bytes = 0
        self.is_whole = False

    async def hold(self, bytes_max: int) -> dict[str, str]:
        """Take the form in, whole or up to about so many bytes: the fields that decide, by name.

        Raises:
            RequestTooLarge, CallerGone: from the caller's side.
            InvalidForm, DuplicateParameter, InvalidParameter: see `dialects.form`.
        """
        reader = self._reader
        async for piece in self._arriving:
            reader.feed(piece)
            self._hold(piece)
            if self.held_bytes > bytes_max:
                reader.seal()
                break
        else:
            reader.close()
            self.is_whole = True
        return {name: field.value for name, field in reader.fields.items()}

    def outbound(self, model: str | None) -> tuple[RequestBody, int | None]:
        """The body of an attempt, with another name for its model where one is given; and its
        length where that is known and the body does not tell it."""
        edits = [] if model is None else self._reader.edits("model", model)
        if self.is_whole and self.held_bytes <= WHOLE_BYTES_MAX:
            return b"".join(spliced(self._drained(), edits)), None
        length = self.held_bytes if self.is_whole else self._announced_bytes
        if length is not None:
            length += sum(len(new) - (end - start) for start, end, new in edits)
        return ArrivingBody(self._pieces(edits)), length

    async def _pieces(self, edits: list[Edit]) -> AsyncIterator[bytes]:
        last = b""  # waits until the form's end is known for one: with it the provider has it whole
        for piece in spliced(self._drained(), edits):
            if last:
                yield last
            last = piece
        if not self.is_whole:
            async for piece in self._arriving:
                self._reader.feed(piece)
                yield last
                last = piece
            self._reader.close()
        yield last

    def _hold(self, piece: bytes) -> None:
        self.held_bytes += len(piece)
        if not self._tail and len(piece) >= _PIECE_BYTES:
            self._held.append(piece)
            return
        self._tail += piece
        if len(self._tail) >= _PIECE_BYTES:
            self._held.append(bytes(self._tail))
            self._tail.clear()

    def _drained(self) -> Iterator[bytes]:
        if self._tail:
            self._held.append(bytes(self._tail))
            self._tail.clear()
        while self._held:
            yield self._held.popleft()
