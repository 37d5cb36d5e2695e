"""Workers ask one another: how are you, what have you counted. And they tell: forget what you know of this.

Each has one end of a datagram socket that everybody else may send to: a question, and with it a descriptor to
answer through. There is no path, no port and no permission to get wrong; a worker that is stopped costs its
askers the time-out and holds ten questions at most (unix(7), max_dgram_qlen), and what takes a dead one's place
reads on where that one left off. What is told has no descriptor, and no answer: who is too full of questions to
hear it must not depend on it.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

ANSWER_S: Final = 0.9  # for figures: then a worker counts as silent
_ANSWER_BYTES_MAX: Final = 16 * 1_048_576
_ANSWERS_AT_ONCE_MAX: Final = 16
_READ_BYTES: Final = 1 << 18
_MESSAGE_BYTES_MAX: Final = 1_024
_MESSAGES_AT_ONCE_MAX: Final = 16


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

    def __init__(
        self,
        number: int,
        lines: Sequence[Line],
        answers: Mapping[bytes, Callable[[], bytes]],
        hears: Mapping[bytes, Callable[[bytes], object]] | None = None,
    ) -> None:
        """
        Args:
            number: this worker's, counted from 1.
            answers: what answers each question; it must not wait.
            hears: what hears of each word that siblings tell, with what it is about; it must not wait either.
        """
        self._number = number
        self._lines = lines
        self._answers = answers
        self._hears = hears or {}
        self._answering: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Answer."""
        asyncio.get_running_loop().add_reader(self._lines[self._number - 1].asked, self._asked)

    def stop(self) -> None:
        """Answer no more."""
        asyncio.get_running_loop().remove_reader(self._lines[self._number - 1].asked)
        for answering in self._answering:
            answering.cancel()

    async def ask(self, question: bytes, within_s: float = ANSWER_S) -> dict[int, bytes | None]:
        """What every other worker answers, by its number; None where it does not in time."""
        others = [number for number in range(1, len(self._lines) + 1) if number != self._number]
        answers = await asyncio.gather(*(_ask(self._lines[number - 1].ask, question, within_s) for number in others))
        return dict(zip(others, answers, strict=True))

    def tell(self, word: bytes, about: bytes) -> None:
        """Let every other worker hear it, unless it is gone or too full."""
        message = word + b" " + about
        assert len(message) <= _MESSAGE_BYTES_MAX
        for number, line in enumerate(self._lines, start=1):
            if number != self._number:
                with contextlib.suppress(OSError):
                    line.ask.send(message)

    def _asked(self) -> None:
        asked = self._lines[self._number - 1].asked
        for _ in range(_MESSAGES_AT_ONCE_MAX):
            try:
                message, descriptors, _, _ = socket.recv_fds(asked, _MESSAGE_BYTES_MAX, maxfds=1)
            except OSError:
                return  # that was all
            if descriptors:
                self._take_question(message, descriptors)
                return  # one at a turn: it is answered between two of them
            word, _, about = message.partition(b" ")
            if word in self._hears:
                self._hears[word](about)

    def _take_question(self, question: bytes, descriptors: Sequence[int]) -> None:
        for descriptor in descriptors:
            asker = socket.socket(fileno=descriptor)
            if len(self._answering) >= _ANSWERS_AT_ONCE_MAX or question not in self._answers:
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
                    await asyncio.get_running_loop().sock_sendall(asker, self._answers[question]())
            except OSError:  # a time-out is one, too
                pass  # it asked some time ago, and waits no longer


async def _ask(line: socket.socket, question: bytes, within_s: float) -> bytes | None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.setblocking(False)
        try:
            with theirs:
                socket.send_fds(line, [question], [theirs.fileno()])
            async with asyncio.timeout(within_s):
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
