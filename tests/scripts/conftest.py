"""Scripts are held to what they do, not to how fast."""

import pytest

from proxy.adapters import redis

# How long a store may take is what these are about.
IMPATIENT = {"test_an_admission_is_given_up_in_time", "test_a_store_that_does_not_answer_is_given_up_in_time"}


@pytest.fixture(autouse=True)
def patient(request, monkeypatch) -> None:
    """A busy machine must not look like an outage."""
    if request.node.originalname not in IMPATIENT:
        monkeypatch.setattr(redis, "CALL_TIMEOUT_S", 10.0)
