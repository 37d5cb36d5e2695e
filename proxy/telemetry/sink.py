"""Where lines go, and how a whole block of them gets there."""

import time
from typing import Final, Protocol

_FULL_S: Final = 0.05  # between tries at a stream that is not blocking, and full


class Sink(Protocol):
    """An unbuffered stream of bytes: a buffered one's lock, held by a stuck thread, would keep the
    process from ending, or abort its end."""

    def write(self, data: bytes, /) -> int | None:
        """Write some of it; how much, or None where nothing fits now."""
        ...


def write_whole(sink: Sink, data: bytes) -> None:
    """Write all of it, for as long as that takes: call it in a thread that nobody waits for.

    Raises:
        OSError, ValueError: the reader is gone, or the stream is closed.
    """
    while data:
        written = sink.write(data)
        if written:
            data = data[written:]
        else:
            time.sleep(_FULL_S)
