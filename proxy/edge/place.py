"""What a worker has from its supervisor: the ports, and ways to its siblings. All of it is made before the first
one is forked; the worker that takes a dead one's place finds the same."""

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

    def close(self) -> None:
        """Let go of the supervisor's own part in all of it: what the workers close is closed then. Safe to repeat."""
        for each in (self._data_socket, self._admin_socket, *(line.asked for line in self._lines)):
            each.close()
