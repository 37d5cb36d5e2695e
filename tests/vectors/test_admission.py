"""What admission decides, as tables: the scripts in Redis and the pure functions over SQLite pass the same."""

import json
from pathlib import Path

import pytest

from tests.admission_stores import play, redis_bench, sqlite_bench

FOLDER = Path(__file__).parent / "admission"
CASES = [case for file in sorted(FOLDER.glob("*.json")) for case in json.loads(file.read_text())]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
async def test_redis(case, redis_url):
    async with redis_bench(redis_url) as bench:
        await play(bench, case)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
async def test_sqlite(case, tmp_path):
    async with sqlite_bench(tmp_path / "tollway.db") as bench:
        await play(bench, case)
