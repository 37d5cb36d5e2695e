import logging

import pytest

from proxy.adapters.sqlite import SqliteDoor
from proxy.keyring import schedule as looking
from proxy.keyring.embedded import EmbeddedKeyringStore
from proxy.keyring.schedule import RotationSchedule
from tests.keyrings import ORIGIN, SECRET, Ring, ignore, local_kek
from tests.scripted_upstream import until

DAY_US = 86_400_000_000


@pytest.fixture
async def ring(tmp_path):
    async with SqliteDoor(tmp_path / "tollway.db") as door:
        yield Ring(EmbeddedKeyringStore(door), [local_kek()])


async def due(schedule) -> str | None:
    await schedule.look()
    return schedule.overdue


async def test_a_rotation_is_due_once_the_oldest_data_key_is_too_old(ring, caplog):
    told: list[tuple[float, bool]] = []
    schedule = RotationSchedule(ring.keyring, 30, ring.clock, lambda *heard: told.append(heard))
    await schedule.look()
    assert told == [(0, False)]
    await ring.keyring.put("acme", "openai", None, ORIGIN, SECRET, ring.clock.now_ms())
    ring.clock.us += 30 * DAY_US
    await ring.keyring.put("other", "openai", None, ORIGIN, SECRET, ring.clock.now_ms())
    await schedule.look()
    assert (told[-1], schedule.overdue) == ((30 * 86_400, False), None)
    ring.clock.us += DAY_US
    for _ in range(3):
        await schedule.look()
    assert schedule.overdue is not None
    assert "31 days" in schedule.overdue
    assert "`tollway keyring rotate-dek --due`" in schedule.overdue
    assert told[-1] == (31 * 86_400, True)
    assert "rotate_after_days is 30" in schedule.overdue
    assert [record.levelno for record in caplog.records] == [logging.WARNING]  # once, and not once an hour
    await ring.keyring.rotate_dek("acme", ring.clock.now_ms(), ignore)
    await schedule.look()
    assert told[-1] == (86_400, False)
    assert await due(schedule) is None


async def test_it_looks_when_it_is_started_and_can_be_stopped_twice(ring):
    ages: list[float] = []
    schedule = RotationSchedule(ring.keyring, 30, ring.clock, lambda age_s, _is_overdue: ages.append(age_s))
    schedule.start()
    schedule.start()
    while not ages:
        await ring.store.epoch("acme")
    await schedule.stop()
    await schedule.stop()
    assert ages == [0]


async def test_a_look_that_fails_is_not_the_last(ring, monkeypatch):
    monkeypatch.setattr(looking, "LOOK_AGAIN_S", 0.0)
    told: list[float] = []

    def hear(age_s, _is_overdue):
        told.append(age_s)
        if len(told) == 1:
            raise ValueError("a fault of whoever hears")

    schedule = RotationSchedule(ring.keyring, 30, ring.clock, hear)
    schedule.start()
    await until(lambda: len(told) > 1)
    await schedule.stop()
    assert told == [0, 0]
