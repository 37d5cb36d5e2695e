"""What tests of several rooms share."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.redis_server import RedisServer

_MEMORY = Path("/dev/shm")
_MEMORY_BYTES_MIN = 4 << 30


def pytest_configure() -> None:
    """Temporary files lie in memory, where there is room: a disk that has to catch up with what others wrote stands
    still for tenths of a second, which is a store that does not answer."""
    if "TMPDIR" not in os.environ and _has_room(_MEMORY):
        os.environ["TMPDIR"] = tempfile.tempdir = str(_MEMORY)


def _has_room(folder: Path) -> bool:
    try:
        free_bytes, flags = shutil.disk_usage(folder).free, os.statvfs(folder).f_flag
    except OSError:
        return False
    return os.access(folder, os.W_OK) and not flags & os.ST_NOEXEC and free_bytes >= _MEMORY_BYTES_MIN


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A real Redis for the whole session. Tests that stop or kill one start their own."""
    with RedisServer() as server:
        yield server.url


@pytest.fixture(scope="session")
def cache_redis_url() -> Iterator[str]:
    """Another one, for what may be lost."""
    with RedisServer() as server:
        yield server.url


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """A name for bytes that are no text, by their length alone.

    The workers that share the suite must all collect the same names, and a gzip member holds
    the second in which it was made.
    """
    return f"{argname}-of-{len(val)}-bytes" if isinstance(val, bytes) and not val.isascii() else None
