"""What a worker has from its supervisor: the ports, and ways to its siblings. All of it is made before the first
one is forked; the worker that takes a dead one's place finds the same."""

import contextlib
import socket
from dataclasses import dataclass

from proxy.edge.crowd import Crowd
from proxy.edge.siblings import Line, make_lines
from proxy.telemetry.keepsake import Keepsake


@dataclass(frozen=True, slots=True)
class Place:
    """One worker's."""

    number: int  # from 1
    data_socket: socket.socket
    admin_socket: socket.socket
    supervisor: socket.socket  # gives orders; see `edge.orders`
    crowd: Crowd
    lines: tuple[Line, ...]
    keepsakes: tuple[Keepsake, ...]

    def leave_the_others(self) -> None:
        """Close what is the siblings' own, so that it ends when they and the supervisor do."""
        for number, line in enumerate(self.lines, start=1):
            if number != self.number:
                line.asked.close()


class Places:
    """All of them, as the supervisor has them."""

    def __init__(self, workers: int, data_socket: socket.socket, admin_socket: socket.socket) -> None:
        self._data_socket = data_socket
        self._admin_socket = admin_socket
        self._crowd = Crowd(workers)
        self._lines = make_lines(workers)
        self._keepsakes = tuple(Keepsake() for _ in range(workers))

    def __len__(self) -> int:
        return len(self._lines)

    def place(self, number: int, supervisor: socket.socket) -> Place:
        """One worker's, counted from 1. `supervisor` is its end of a pair."""
        return Place(
            number,
            self._data_socket,
            self._admin_socket,
            supervisor,
            self._crowd,
            self._lines,
            self._keepsakes,
        )

    def turns(self, number: int) -> int:
        """How often a worker, counted from 1, has said that it turns."""
        return self._crowd.turns(number)

    def leave_lines(self) -> None:
        """Let go of the supervisor's own part in them: who asks a worker that has ended knows it at once. Safe to
        repeat, and for the end: nobody could take a worker's place then."""
        for line in self._lines:
            line.asked.close()

    def end_data_port(self) -> None:
        """Accept nothing more on the data port: no worker can, not even one that hangs and holds it. Again where a
        worker has begun since: it listened anew."""
        _end(self._data_socket)

    def end_admin_port(self) -> None:
        """Likewise. Safe to repeat."""
        _end(self._admin_socket)


def _end(listening: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it does not listen, or has ended
        listening.shutdown(socket.SHUT_RDWR)
