"""How fast a body must come, without a clock."""

import pytest

from proxy.core.errors import MalformedRequest, RequestTimedOut
from proxy.edge.framing import ProtocolLimits
from proxy.edge.pace import BodyPace

LIMITS = ProtocolLimits(body_first_byte_s=7, body_window_s=10, body_bytes_per_s_min=100, chunk_framing_bytes_max=50)


def pace() -> BodyPace:
    begun = BodyPace(LIMITS)
    begun.begin()
    assert begun.begin_window() == 7
    return begun


def test_the_first_window_wants_one_byte():
    with pytest.raises(RequestTimedOut):
        pace().end_window()
    begun = pace()
    begun.feed(1)
    assert begun.end_window() == 10


@pytest.mark.parametrize(("came_bytes", "fine"), [(0, False), (999, False), (1_000, True)])
def test_each_later_window_wants_its_rate(came_bytes, fine):
    begun = pace()
    begun.feed(1_000_000)  # an early hurry buys no rest later
    begun.end_window()
    begun.feed(came_bytes)
    if fine:
        assert begun.end_window() == 10
    else:
        with pytest.raises(RequestTimedOut):
            begun.end_window()


def test_framing_is_bounded_between_two_pieces_of_body():
    begun = pace()
    begun.feed_wire(50)
    begun.check_framing()
    begun.feed_wire(1)
    with pytest.raises(MalformedRequest):
        begun.check_framing()
    begun.feed(1)
    begun.check_framing()


def test_the_next_request_begins_anew():
    begun = pace()
    begun.feed(1)
    begun.feed_wire(1_000)
    begun.begin()
    begun.check_framing()
    with pytest.raises(RequestTimedOut):
        begun.end_window()
