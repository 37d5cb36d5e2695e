"""Workers ask one another: how are you, what have you counted.

Each has one end of a datagram socket that everybody else may send to: a question, and with it a descriptor to
answer through. There is no path, no port and no permission to get wrong; a worker that is stopped costs its
askers the time-out and holds ten questions at most (unix(7), max_dgram_qlen), and what takes a dead one's place
reads on where that one left off.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

ANSWER_S: Final = 0.9  # then a worker counts as silent
_ANSWER_BYTES_MAX: Final = 16 * 1_048_576
_ANSWERS_AT_ONCE_MAX: Final = 16
_READ_BYTES: Final = 1 << 18
_QUESTION_BYTES_MAX: Final = 16


class Line(NamedTuple):
    """How one worker is asked."""

    ask: socket.socket  # everybody's
    asked: socket.socket  # its own


def make_lines(workers: int) -> tuple[Line, ...]:
    """One for each worker, before any is forked."""
    lines = tuple(Line(*socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)) for _ in range(workers))
    for end in (end for line in lines for end in line):
        end.setblocking(False)
    return lines


class Siblings:
    """What one worker sees of the others, and they of it."""

    def __init__(self, number: int, lines: Sequence[Line], tell: Mapping[bytes, Callable[[], bytes]]) -> None:
        """
        Args:
            number: this worker's, counted from 1.
            tell: what answers each question; it must not wait.
        """
        self._number = number
        self._lines = lines
        self._tell = tell
        self._answering: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Answer."""
        asyncio.get_running_loop().add_reader(self._lines[self._number - 1].asked, self._asked)

    def stop(self) -> None:
        """Answer no more."""
        asyncio.get_running_loop().remove_reader(self._lines[self._number - 1].asked)
        for answering in self._answering:
            answering.cancel()

    async def ask(self, question: bytes) -> dict[int, bytes | None]:
        """What every other worker answers, by its number; None where it does not in time."""
        others = [number for number in range(1, len(self._lines) + 1) if number != self._number]
        answers = await asyncio.gather(*(_ask(self._lines[number - 1].ask, question) for number in others))
        return dict(zip(others, answers, strict=True))

    def _asked(self) -> None:
        try:
            question, descriptors, _, _ = socket.recv_fds(
                self._lines[self._number - 1].asked, _QUESTION_BYTES_MAX, maxfds=1
            )
        except OSError:
            return
        for descriptor in descriptors:
            asker = socket.socket(fileno=descriptor)
            if len(self._answering) >= _ANSWERS_AT_ONCE_MAX or question not in self._tell:
                asker.close()
                continue
            answering = asyncio.get_running_loop().create_task(self._answer(asker, question))
            self._answering.add(answering)
            answering.add_done_callback(self._answering.discard)

    async def _answer(self, asker: socket.socket, question: bytes) -> None:
        with asker:
            asker.setblocking(False)
            try:
                async with asyncio.timeout(ANSWER_S):
                    await asyncio.get_running_loop().sock_sendall(asker, self._tell[question]())
            except OSError:  # a time-out is one, too
                pass  # it asked some time ago, and waits no longer


async def _ask(line: socket.socket, question: bytes) -> bytes | None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.setblocking(False)
        try:
            with theirs:
                socket.send_fds(line, [question], [theirs.fileno()])
            async with asyncio.timeout(ANSWER_S):
                return await _read_whole(ours)
        except OSError:  # gone, or so full of questions that it takes no other; a time-out is one, too
            return None


async def _read_whole(answering: socket.socket) -> bytes | None:
    loop = asyncio.get_running_loop()
    answer = bytearray()
    while chunk := await loop.sock_recv(answering, _READ_BYTES):
        answer += chunk
        if len(answer) > _ANSWER_BYTES_MAX:
            return None
    return bytes(answer) or None
