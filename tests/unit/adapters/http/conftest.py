"""Every test of the transport runs on both event loops: they pause, abort and report differently."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from proxy.adapters.http import pool
from proxy.adapters.http.transport import Transport


def pytest_asyncio_loop_factories(config, item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=["alone", "in a crowd"])
async def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Transport]:
    """Its requests leave at once, or at the end of the loop's turn."""
    if request.param == "in a crowd":
        monkeypatch.setattr(pool, "_CROWD_MIN", 0)
    transport = Transport()
    yield transport
    await transport.aclose()
    assert transport.open_connections == 0
