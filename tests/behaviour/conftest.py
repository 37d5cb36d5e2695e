"""Which event loop a promise is tested on: where hang-ups and faults of the network are what it is
about, the one of the command, on which sockets end in other ways than on asyncio's own."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

from proxy.adapters import redis, sqlite
from proxy.admission import keeper, store
from proxy.cache import shelf, tenant_secrets
from proxy.cache import store as cache_store
from proxy.identity import lookup_cache
from proxy.upstream.breaker import Breaker
from proxy.upstream.retry_budget import RetryBudget
from proxy.upstream.throttle import Throttle
from proxy.upstream.vitals import Vitals

UVLOOP = {"test_upstream_faults.py"}
BOTH = {"test_cancel_storm.py", "test_hang_up.py"}
# How long a store may take is what these are about; to all others a busy machine must not look like an outage.
IMPATIENT = {
    *("test_cache_outage.py", "test_caps_outage.py", "test_rates_without_caps.py", "test_state_outage.py"),
    "test_vanished_gateway.py",
}
PATIENCE_S = 5.0


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.path.name in BOTH:
        return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    if item.path.name in UVLOOP:
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


@pytest.fixture
def asked_once(monkeypatch) -> None:
    """The gateway sends nothing again, and forgets at once what failed: what is seen is the provider's and the SDK's
    own doing."""
    monkeypatch.setattr(RetryBudget, "take", lambda _budget, _now_us: False)
    monkeypatch.setattr(Breaker, "failed", lambda _breaker, _now_us: None)
    monkeypatch.setattr(Vitals, "failed", lambda _vitals, _now_us: None)
    monkeypatch.setattr(Throttle, "told", lambda _throttle, _asked_ms, _now_us: None)


@pytest.fixture(autouse=True)
def patient(request, monkeypatch) -> None:
    """A store of this process's gateways may take its time."""
    if request.path.name in IMPATIENT:
        return
    for module, name in (
        *((redis, "CALL_TIMEOUT_S"), (sqlite, "CALL_TIMEOUT_S"), (sqlite, "STEP_TIMEOUT_S")),
        *((keeper, "ADMIT_TIMEOUT_S"), (store, "ADMIT_TIMEOUT_S"), (lookup_cache, "LOOKUP_TIMEOUT_S")),
        *((shelf, "FIND_S"), (cache_store, "CACHE_TIMEOUT_S"), (tenant_secrets, "WAIT_S")),
    ):
        monkeypatch.setattr(module, name, PATIENCE_S)
