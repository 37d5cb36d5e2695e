"""A new configuration is read beside the calls, and put in force by the loop; whoever asks is never forgotten."""

import asyncio
import logging
import threading
from functools import partial

import pytest

from proxy.app.rereading import Rereading
from proxy.settings.model import Settings
from proxy.settings.problem import Problem, SettingsError
from tests.scripted_upstream import until

WAIT_S = 10
REFUSALS = [
    SettingsError("t.toml", (Problem("auth.mode", "a text", "a number"),)),
    OSError("cannot read t.toml"),
    ValueError("restart it instead"),
]


class File:
    """A configuration's file. `versions` are what each reading finds, and a reading lasts until it is let go."""

    def __init__(self, *versions: str | Exception, is_held: bool = False) -> None:
        self._versions = iter(versions)
        self.go = threading.Semaphore(0 if is_held else len(versions))
        self.readings = 0
        self.in_force: list[str] = []
        self.rereading = Rereading(self._read, self._put_in_force, lambda: self.in_force[-1])

    def _read(self) -> Settings:
        self.readings += 1
        found = next(self._versions)
        assert self.go.acquire(timeout=WAIT_S)
        if isinstance(found, Exception):
            raise found
        return Settings(version=found)

    def has_ended(self, readings: int) -> bool:
        task = self.rereading._task
        return self.readings == readings and task is not None and task.done()

    def _put_in_force(self, settings: Settings) -> None:
        assert asyncio.get_running_loop().is_running()  # on the loop, where requests take their snapshots
        self.in_force.append(settings.version)


async def test_the_loop_goes_on_while_the_file_is_read():
    file = File("one", is_held=True)
    file.rereading.ask()
    await until(lambda: file.readings == 1)
    assert file.in_force == []
    file.go.release()
    await until(lambda: file.in_force == ["one"])


async def test_who_asks_while_it_is_read_gets_another_reading_and_it_is_the_last_word():
    file = File("one", "two", is_held=True)
    file.rereading.ask()
    await until(lambda: file.readings == 1)
    for _ in range(3):  # asked three times, read once more
        file.rereading.ask()
    file.go.release(2)
    await until(lambda: file.in_force == ["one", "two"])
    assert file.readings == 2


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: type(refusal).__name__)
async def test_what_cannot_be_read_is_said_and_the_next_may_be(refusal, caplog):
    file = File("one", refusal, "three")
    for readings in range(1, 4):
        with caplog.at_level(logging.ERROR):
            file.rereading.ask()
            await until(partial(file.has_ended, readings))
    assert file.in_force == ["one", "three"]
    assert f"the new configuration is refused; one stays in force: {refusal}" in caplog.text


async def test_a_fault_of_ours_is_seen_and_is_not_the_last_reload(caplog):
    file = File("one", RuntimeError("a fault"), "three")
    for readings in range(1, 4):
        file.rereading.ask()
        await until(partial(file.has_ended, readings))
    assert file.in_force == ["one", "three"]
    assert "the reload failed; one stays in force: a fault" in caplog.text


async def test_after_the_end_nothing_is_put_in_force():
    file = File("one", is_held=True)
    await file.rereading.stop()  # before anybody asked
    file.rereading.ask()
    await until(lambda: file.readings == 1)
    await file.rereading.stop()
    await file.rereading.stop()
    file.go.release()
    await asyncio.sleep(0.05)
    assert file.in_force == []
