"""Standard error: every line while it is read, none waited for when it is not."""

import io
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from proxy.telemetry.error_log import ErrorLog


def record(message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("tollway.test", logging.ERROR, __file__, 1, message, arguments, None)


@contextmanager
def logging_to(log: ErrorLog) -> Iterator[logging.Logger]:
    """A logger of the test's own, before this log alone."""
    logger = logging.getLogger("tollway.test")
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    logger.addHandler(log)
    try:
        yield logger
    finally:
        logger.removeHandler(log)


class Gathered(io.BytesIO):
    """Takes a little at a time, as a pipe may."""

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        return super().write(data[:7])


def test_records_and_lines_keep_their_order_and_are_written_whole():
    sink = Gathered()
    log = ErrorLog(sink)
    log.say("first: it begins")
    log.emit(record("second, %d times", 2))
    log.say("third \ud800")
    log.end()
    assert sink.getvalue() == b"first: it begins\nERROR tollway.test: second, 2 times\nthird \\ud800\n"


def test_a_record_that_cannot_be_put_together_is_written_as_it_stands():
    sink = io.BytesIO()
    log = ErrorLog(sink)
    log.emit(record("%d times", "no number"))
    log.say("the next")
    log.end()
    assert sink.getvalue() == b"ERROR tollway.test: '%d times'\nthe next\n"


def test_a_traceback_is_written():
    sink = io.BytesIO()
    log = ErrorLog(sink)
    with logging_to(log) as logger:
        try:
            raise ValueError("why")
        except ValueError:
            logger.exception("it failed")
    log.end()
    assert sink.getvalue().startswith(b"ERROR tollway.test: it failed\nTraceback (most recent call last):\n")
    assert sink.getvalue().endswith(b"ValueError: why\n")


class Stopped:
    """A reader that takes nothing until it is told to go on."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.taken: list[bytes] = []

    def write(self, data: bytes, /) -> int:
        assert self.go_on.wait(20)
        self.taken.append(data)
        return len(data)


def test_a_reader_that_stops_costs_lines_and_never_a_wait():
    sink = Stopped()
    log = ErrorLog(sink)
    for number in range(10_000):  # returns: nothing here waits
        log.say(f"line {number}")
    sink.go_on.set()
    log.end(20)
    lines = b"".join(sink.taken).decode().splitlines()
    kept = [int(line.split()[1]) for line in lines if line.startswith("line ")]
    dropped = [int(line.split()[2]) for line in lines if line.endswith("nobody read them in time")]
    assert kept == sorted(set(kept))
    assert 0 < len(kept) < 10_000
    assert sum(dropped) == 10_000 - len(kept)


def test_the_end_does_not_wait_for_a_reader_that_never_comes_back():
    sink = Stopped()
    log = ErrorLog(sink)
    for _ in range(10_000):
        log.say("line")
    log.end(0.01)
    assert sink.taken == []
    sink.go_on.set()


def test_a_reader_that_is_gone_is_no_fault():
    reading, writing = os.pipe()
    os.close(reading)
    with io.FileIO(writing, "w") as sink:
        log = ErrorLog(sink)
        log.say("to nobody")
        log.end()


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_details_for_makers_are_left_out(level):
    sink = io.BytesIO()
    log = ErrorLog(sink)
    with logging_to(log) as logger:
        logger.log(level, "seen")
    log.end()
    assert (b"seen" in sink.getvalue()) is (level == logging.INFO)
