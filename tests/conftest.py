"""What tests of several rooms share."""

from collections.abc import Iterator

import pytest

from tests.redis_server import RedisServer


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
