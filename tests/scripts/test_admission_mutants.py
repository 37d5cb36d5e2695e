"""Scripts with one mistake each: the vectors must see every one of them."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from proxy.adapters.redis import RedisDoor, Script
from proxy.admission.scripts import Scripts
from tests.admission_stores import RedisBench, play
from tests.vectors.test_admission import CASES

# Each a mistake in words, and the scripts' text before and after it.
MUTANTS = {
    each["mistake"]: (each["before"], each["after"])
    for each in json.loads((Path(__file__).parent / "admission_mutants.json").read_text())
}


def mutated(before: str, after: str) -> Scripts:
    """The scripts with that one change, in each that has the text."""
    scripts, changed, hit = Scripts.load(), {}, 0
    for field in fields(Scripts):
        text = getattr(scripts, field.name).text
        if before in text:
            hit += 1
        changed[field.name] = Script(text.replace(before, after))
    assert hit > 0, f"no script has this text any more: {before}"
    return Scripts(**changed)


async def survives(bench: RedisBench) -> bool:
    """Whether every vector passes. A script that fails outright is caught as well."""
    for case in CASES:
        try:
            await play(bench, case)
        except Exception:  # noqa: BLE001 - any failure catches the mutant
            return False
    return True


@pytest.mark.parametrize("mistake", MUTANTS)
async def test_a_mistake_is_seen(mistake, redis_url):
    async with RedisDoor(redis_url) as door:
        assert not await survives(RedisBench(door, mutated(*MUTANTS[mistake])))


async def test_the_scripts_as_they_are_pass(redis_url):
    async with RedisDoor(redis_url) as door:
        assert await survives(RedisBench(door, Scripts.load()))
