import pytest

from tests.unit.adapters.http.storm import CANCELS, storm


@pytest.mark.timeout(60 + CANCELS // 20)
@pytest.mark.parametrize("seed", [1, 2])
async def test_a_storm_of_cancels_leaks_nothing(seed):
    """Half of the cancels under each seed. TOLLWAY_STORM_CANCELS says how many in all."""
    outcomes = await storm(CANCELS // 2, seed)
    assert outcomes["cancelled"] >= CANCELS // 2
    # Every phase was met, and nothing else happened but complete answers and the upstream's own hanging up.
    assert min(outcomes["cancelled before the head"], outcomes["cancelled in the body"], outcomes["answered"]) > 0
    named = {"cancelled", "cancelled before the head", "cancelled in the body", "answered", "ReadError", "WriteError"}
    assert set(outcomes) <= named, outcomes
