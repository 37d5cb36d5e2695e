"""Which event loop a promise is tested on: where hang-ups and faults of the network are what it is
about, the one of the command, on which sockets end in other ways than on asyncio's own."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

UVLOOP = {"test_upstream_faults.py"}
BOTH = {"test_cancel_storm.py", "test_hang_up.py"}


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.path.name in BOTH:
        return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    if item.path.name in UVLOOP:
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}
