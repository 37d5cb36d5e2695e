import json
from pathlib import Path

import pytest

from benchmarks import setups
from benchmarks.load import NUMBER
from benchmarks.targets import config_text
from proxy.settings.load import load
from proxy.simulated.behaviour import parse_model


def settings(mode: str, redis_url: str | None = None):
    text = setups.template(mode, redis_url)
    text = config_text(Path("/x"), port=1, admin_port=2, upstream="http://127.0.0.1:3/v1", template=text)
    return load(text, path="bench.toml", environ={}, read_file=Path.read_text)


@pytest.mark.parametrize("mode", setups.MODES)
@pytest.mark.parametrize("redis_url", [None, "redis://127.0.0.1:4/0"])
def test_the_gateway_takes_each_configuration(mode, redis_url):
    found = settings(mode, redis_url)
    assert found.auth.mode == ("passthrough" if mode == setups.PASSTHROUGH else "virtual-keys")
    assert all("plain text" in warning for warning in found.warnings)  # the provider's key is no secret


@pytest.mark.parametrize(("mode", "cache"), [(setups.EVERYTHING, "deterministic"), (setups.MISSES, "all")])
def test_everything_is_on(mode, cache):
    found = settings(mode)
    plan, tenant = found.plans["default"], found.tenants[setups.TENANT]
    for scope in (plan.tenant, plan.user, plan.features[setups.FEATURE]):
        assert scope.per_day_nusd
    assert plan.tenant.requests_per_minute
    assert plan.tenant.tokens_per_minute
    assert tenant.cache is not None
    assert tenant.cache.mode == cache
    assert set(found.models) == set(setups.MODELS)
    assert all(model.deployments[0].price is not None for model in found.models.values())
    assert found.ledger.sink.startswith("folder:")


def test_the_models_are_the_simulated_providers():
    assert all(parse_model(model) is not None for model in setups.MODELS)


def test_a_body_that_differs_has_its_size_and_a_place_for_a_number():
    sent = setups.differing_body("simulated", stream=True, size_bytes=1_024)
    assert len(sent) == 1_024
    assert sent.count(NUMBER) == 1
    assert json.loads(sent.replace(NUMBER, b"0000000000000007"))["stream"] is True
