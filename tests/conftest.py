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
