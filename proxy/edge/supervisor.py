"""Keeps several workers running: forks them, puts another where one dies, and passes on what it is told.

It stands apart from every request: one thread, no event loop, and nothing that it would have to share with a worker
but what they were forked with. It forks and does not spawn, so that a worker starts in the time that its stores take,
on the configuration that its siblings have; what makes a fork safe is that there is no other thread here.
"""

import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from proxy.edge.orders import BEGUN, CLOSED, DRAIN, END, RELOAD
from proxy.edge.place import Place, Places
from proxy.edge.wakeups import Wakeups

_PAUSE_MIN_S: Final = 0.1
_PAUSE_MAX_S: Final = 30.0
_STEADY_S: Final = 60.0  # a worker that lived so long died of something new
# Beyond the drain: what a worker may take for its last rows, before it counts as one that hangs.
_LAST_WORDS_S: Final = 35.0
_KILLED_AGAIN_S: Final = 60.0
# A worker that serves or drains shows that it turns every two seconds. What has not for 30 s is in no turn of the
# event loop that could ever be meant: its callers wait for nothing.
_LOOK_S: Final = 5.0
_SILENT_LOOKS_MAX: Final = 6
_READ_BYTES: Final = 64

_log = logging.getLogger("tollway")


def restart_pause_s(short_lives: int) -> float:
    """How long to wait before a worker is replaced, after so many in a row that did not live long."""
    assert short_lives >= 0
    return min(_PAUSE_MAX_S, _PAUSE_MIN_S * 2.0 ** min(short_lives, 16))


class _Seat:
    """Where one worker is, or is to be."""

    __slots__ = (
        *("began_s", "due_s", "has_begun", "has_closed", "number", "orders", "process", "short_lives"),
        *("silent_looks", "turns"),
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: int | None = None
        self.orders: socket.socket | None = None  # its end is the worker's
        self.has_begun = False  # it accepts connections
        self.has_closed = False  # it accepts none any more
        self.turns = 0  # how often it had shown that it turns, at the last look
        self.silent_looks = 0  # since when it has not
        self.began_s = 0.0
        self.short_lives = 0
        self.due_s: float | None = 0.0  # when the next one is to be started


class Supervisor:
    """One gateway's workers."""

    def __init__(
        self,
        places: Places,
        work: Callable[[Place], int],
        reload: Callable[[], bool],
        on_begun: Callable[[], None],
        drain_s: float,
    ) -> None:
        """
        Args:
            work: a worker's life, in a process of its own; gives its exit code.
            reload: reads the configuration anew, and leaves it to the workers; False where it is refused.
            on_begun: called once, when all accept connections.
        """
        self._places = places
        self._work = work
        self._reload = reload
        self._on_begun = on_begun
        self._drain_s = drain_s
        self._seats = [_Seat(number) for number in range(1, len(places) + 1)]
        self._has_begun = False
        self._is_stopping = False
        self._killed_at_s = 0.0  # when what is left is killed, once it stops
        self._look_at_s = 0.0
        self._exit_code = 0

    def run(self) -> int:
        """Until it is told to stop and every worker has ended; the exit code."""
        with Wakeups() as wakeups:
            while not self._is_over():
                self._start_due(wakeups)
                self._hear(wakeups)
                for seat in self._seats:
                    self._reap(seat)
                self._look()
                self._end_overdue()
        return self._exit_code

    def _is_over(self) -> bool:
        return self._is_stopping and all(seat.process is None for seat in self._seats)

    # ── what comes in ────────────────────────────────────────────────────────────────────

    def _hear(self, wakeups: Wakeups) -> None:
        talking = {seat.orders: seat for seat in self._seats if seat.orders is not None}
        numbers, readable = wakeups.wait(list(talking), self._patience_s())
        for number in numbers:
            if number == signal.SIGHUP:
                self._pass_on_reload()
            elif number in (signal.SIGTERM, signal.SIGINT):
                self._stop()
        for orders in readable:
            self._read(talking[orders], orders)

    def _patience_s(self) -> float:
        now_s = time.monotonic()
        moments = [seat.due_s for seat in self._seats if seat.due_s is not None]
        if self._is_stopping:
            moments.append(self._killed_at_s)
        return max(0.0, min([self._look_at_s, *moments]) - now_s)

    def _read(self, seat: _Seat, orders: socket.socket) -> None:
        try:
            said = orders.recv(_READ_BYTES)
        except OSError:
            said = b""
        if not said:  # it is ending: its process is told of by SIGCHLD
            orders.close()
            seat.orders = None
        if BEGUN in said:
            self._begun(seat)
        if CLOSED in said:
            seat.has_closed = True

    def _begun(self, seat: _Seat) -> None:
        seat.has_begun = True
        if self._is_stopping:  # it was told so while it started, and has opened the port once more
            self._places.end_data_port()
            return
        _log.info("worker %d of %d serves (process %d)", seat.number, len(self._seats), seat.process)
        if not self._has_begun and all(each.has_begun for each in self._seats):
            self._has_begun = True
            self._on_begun()

    # ── what goes out ────────────────────────────────────────────────────────────────────

    def _pass_on_reload(self) -> None:
        if not self._is_stopping and self._reload():
            self._order(RELOAD)

    def _stop(self) -> None:
        """Drain; told again: end now."""
        self._order(END if self._is_stopping else DRAIN)
        patience_s = _LAST_WORDS_S if self._is_stopping else self._drain_s + _LAST_WORDS_S
        self._is_stopping = True
        self._killed_at_s = time.monotonic() + patience_s
        for seat in self._seats:
            seat.due_s = None
        self._places.leave_lines()
        # Those that turn are told, and finish; one that hangs would go on accepting, for callers whom nobody answers.
        self._places.end_data_port()

    def _order(self, order: bytes) -> None:
        for seat in self._seats:
            if seat.orders is not None:
                try:
                    seat.orders.send(order)
                except OSError:  # it is ending, or has read none of so many that no other has room
                    if order != RELOAD:  # which is among those
                        seat.orders.close()  # and its end is the order to drain
                        seat.orders = None

    # ── lives and deaths ─────────────────────────────────────────────────────────────────

    def _start_due(self, wakeups: Wakeups) -> None:
        for seat in self._seats:
            if seat.due_s is not None and seat.due_s <= time.monotonic():
                self._start(seat, wakeups)

    def _start(self, seat: _Seat, wakeups: Wakeups) -> None:
        with ExitStack() as made:
            try:
                ours, theirs = map(made.enter_context, socket.socketpair())
                process = wakeups.fork()
            except OSError as error:  # so many processes or descriptors, or so little memory
                self._again(seat, f"cannot be started ({error.strerror})")
                return
            made.pop_all()
        if process == 0:
            ours.close()
            self._live(seat, theirs)
        theirs.close()
        ours.setblocking(False)
        seat.process, seat.orders, seat.due_s = process, ours, None
        seat.has_begun, seat.has_closed, seat.silent_looks = False, False, 0
        seat.began_s = time.monotonic()

    def _live(self, seat: _Seat, orders: socket.socket) -> None:
        """In the new process: never returns."""
        exit_code = 1
        try:
            for other in self._seats:
                if other.orders is not None:
                    other.orders.close()
            place = self._places.place(seat.number, orders)
            place.leave_the_others()
            exit_code = self._work(place)
        except BaseException:  # noqa: BLE001  whatever it is, it ends here and not in the supervisor's own code
            _log.exception("worker %d ended", seat.number)
        finally:
            os._exit(exit_code)

    def _reap(self, seat: _Seat) -> None:
        if seat.process is None:
            return
        process, status = os.waitpid(seat.process, os.WNOHANG)
        if process == 0:
            return
        exit_code = os.waitstatus_to_exitcode(status)
        seat.process = None
        if seat.orders is not None:
            seat.orders.close()
            seat.orders = None
        if self._is_stopping:
            return
        if exit_code in (0, -signal.SIGTERM):  # whoever told this one to stop wants another
            _log.info("worker %d (process %d) was told to stop; another takes its place", seat.number, process)
            seat.due_s = time.monotonic()
            return
        how = f"was ended by signal {-exit_code}" if exit_code < 0 else f"ended with code {exit_code}"
        if exit_code > 0 and not self._has_begun:  # it has said why, and would say it again
            _log.error("worker %d (process %d) %s: this gateway does not start", seat.number, process, how)
            self._exit_code = 1
            self._stop()
        else:
            self._again(seat, f"(process {process}) {how}")

    def _again(self, seat: _Seat, what: str) -> None:
        now_s = time.monotonic()
        if now_s - seat.began_s >= _STEADY_S:
            seat.short_lives = 0
        pause_s = restart_pause_s(seat.short_lives)
        seat.short_lives += 1
        seat.due_s = now_s + pause_s
        _log.error("worker %d %s; another takes its place in %g s", seat.number, what, pause_s)

    def _look(self) -> None:
        """Whether those that have begun still turn; who does not for long is killed.

        That is counted in looks, and not in seconds: where a machine was asleep, or somebody had stopped all of these
        processes, this one has not looked, and they are at fault for nothing.
        """
        now_s = time.monotonic()
        if now_s >= self._look_at_s:
            self._look_at_s = now_s + _LOOK_S
            for seat in self._seats:
                turns = self._places.turns(seat.number)
                is_silent = seat.process is not None and seat.has_begun and turns == seat.turns
                seat.turns = turns
                seat.silent_looks = seat.silent_looks + 1 if is_silent else 0
                if seat.silent_looks >= _SILENT_LOOKS_MAX:
                    self._kill(seat, f"has not turned for {_SILENT_LOOKS_MAX * _LOOK_S:g} s")
                    seat.silent_looks = 0
        living = [seat for seat in self._seats if seat.process is not None]
        if self._is_stopping and all(seat.has_closed or seat.silent_looks for seat in living):
            self._places.end_admin_port()  # who turns has left it

    def _end_overdue(self) -> None:
        if not self._is_stopping or time.monotonic() < self._killed_at_s:
            return
        for seat in self._seats:
            self._kill(seat, "does not end")
        self._killed_at_s = time.monotonic() + _KILLED_AGAIN_S

    def _kill(self, seat: _Seat, why: str) -> None:
        if seat.process is None:
            return
        _log.error("worker %d (process %d) %s, and is killed", seat.number, seat.process, why)
        os.kill(seat.process, signal.SIGKILL)
        if self._is_stopping:
            self._exit_code = 1
