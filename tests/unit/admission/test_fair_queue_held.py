"""Places under any order of calls, ends, hang-ups, time-outs and reloads: an invariant is an invariant."""

import asyncio
from collections import Counter, deque

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.admission.fair_queue import WAIT_S, WAITING_MAX, FairQueue
from proxy.core.errors import RateLimited

TENANTS = st.sampled_from("abcde")
PCTS = st.sampled_from([1, 20, 50, 100])


class SteppedLoop(asyncio.SelectorEventLoop):
    """A loop whose time stands still until it is moved on."""

    now_s = 0.0

    def time(self):
        return self.now_s

    def turn(self):
        """Run what is ready now, and no more."""
        self.call_soon(self.stop)
        self.run_forever()


class PlacesMachine(RuleBasedStateMachine):
    """What the calls themselves know of their places, against what the queue says."""

    def __init__(self):
        super().__init__()
        self.loop = SteppedLoop()
        self.share_pct = 20
        self.queue = FairQueue(3, self.share_pct)
        self.inside: Counter[str] = Counter()  # calls that have a place, and know it
        self.waiting: list[tuple[str, asyncio.Task]] = []  # that have not been told yet
        self.in_flight_before = 0

    def teardown(self):
        for _, task in self.waiting:
            task.cancel()
        self.settle()
        for tenant_id in list(self.inside.elements()):
            self.queue.leave(tenant_id)
        assert (self.queue.in_flight, self.queue.waiting, self.queue.tenants) == (0, 0, 0)
        assert [self.queue.enter("new") for _ in range(self.queue.capacity)] == [True] * self.queue.capacity
        assert not self.queue.enter("new")
        self.loop.close()

    def settle(self):
        for _ in range(5):
            self.loop.turn()
        told = [(tenant_id, task) for tenant_id, task in self.waiting if task.done()]
        self.waiting = [(tenant_id, task) for tenant_id, task in self.waiting if not task.done()]
        for tenant_id, task in told:
            if not task.cancelled() and task.exception() is None:
                self.inside[tenant_id] += 1
            elif not task.cancelled():
                assert isinstance(task.exception(), RateLimited)

    @rule(tenant_id=TENANTS, weight=st.integers(1, 4))
    def call(self, tenant_id, weight):
        if self.queue.enter(tenant_id):
            self.inside[tenant_id] += 1
        else:
            self.waiting.append((tenant_id, self.loop.create_task(self.queue.wait(tenant_id, weight))))

    @precondition(lambda self: self.inside)
    @rule(number=st.integers(0, 99))
    def end(self, number):
        ready = sorted(self.inside.elements())
        tenant_id = ready[number % len(ready)]
        self.inside -= Counter(tenant_id)
        self.queue.leave(tenant_id)

    @precondition(lambda self: self.waiting)
    @rule(number=st.integers(0, 99))
    def hang_up(self, number):
        self.waiting[number % len(self.waiting)][1].cancel()

    @rule(capacity=st.integers(1, 8), share_pct=PCTS)
    def reload(self, capacity, share_pct):
        self.share_pct = share_pct
        self.queue.resize(capacity, share_pct)

    @rule(part=st.floats(0.2, 1.1))
    def time_passes(self, part):
        self.loop.now_s += part * WAIT_S

    @rule()
    def one_turn(self):
        self.loop.turn()

    @rule()
    def everybody_is_told(self):
        self.settle()
        # Nothing is on its way now: what the queue counts is what the calls know.
        assert self.queue.in_flight == self.inside.total()
        assert self.queue.waiting == len(self.waiting)
        assert self.queue.tenants == len(self.inside)
        assert all(self.queue.held_by(tenant_id) == self.inside[tenant_id] for tenant_id in "abcde")

    @invariant()
    def never_more_than_there_are_places(self):
        # After a reload there may be: then it never grows.
        assert self.queue.in_flight <= max(self.queue.capacity, self.in_flight_before)
        self.in_flight_before = self.queue.in_flight

    @invariant()
    def no_place_is_free_while_anybody_waits(self):
        assert self.queue.in_flight >= self.queue.capacity or not self.queue.waiting


TestPlaces = PlacesMachine.TestCase
TestPlaces.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


class Rush:
    """Tenants that always want more places than there are, with calls that end in the order in which they began."""

    def __init__(self, loop, capacity, share_pct, weights):
        self.loop, self.weights = loop, weights
        self.queue = FairQueue(capacity, share_pct)
        self.under_way: deque[str] = deque()
        self.served: list[str] = []
        self.tasks: set[asyncio.Task] = set()

    async def call(self, tenant_id):
        if not self.queue.enter(tenant_id):
            await self.queue.wait(tenant_id, self.weights[tenant_id])
            self.served.append(tenant_id)
        self.under_way.append(tenant_id)

    def want(self, tenant_id, calls=1):
        for _ in range(calls):
            task = self.loop.create_task(self.call(tenant_id))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        self.loop.turn()

    def end_one(self):
        """Who gets the place that comes free."""
        self.queue.leave(self.under_way.popleft())
        self.loop.turn()
        self.loop.turn()
        self.want(self.served[-1])  # there is always another of the same
        return self.served[-1]

    def close(self):
        for task in self.tasks:
            task.cancel()
        self.loop.turn()
        self.loop.turn()
        self.loop.close()


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 12), PCTS, st.dictionaries(TENANTS, st.integers(1, 6), min_size=2))
def test_whoever_waits_is_served_in_bounded_time_though_one_tenant_has_every_place(capacity, share_pct, weights):
    rush = Rush(SteppedLoop(), capacity, share_pct, weights)
    flood, *others = weights
    rush.want(flood, capacity + WAITING_MAX)
    for tenant_id in others:
        rush.want(tenant_id, WAITING_MAX)
    # Once all that were under way have ended, a tenant that got nothing has less than its share; then one round
    # and what was left of another one's turns pass, at most.
    bound = capacity + 2 * sum(weights.values()) + len(weights)
    since = Counter(dict.fromkeys(weights, 0))
    for _ in range(4 * bound):
        served = rush.end_one()
        since.update(weights.keys())
        since[served] = 0
        assert max(since.values()) <= bound
    rush.close()


@settings(deadline=None, max_examples=40)
@given(st.integers(5, 40), st.integers(1, 9))
def test_a_newcomer_gets_the_very_next_place_while_one_tenant_has_them_all(capacity, weight):
    rush = Rush(SteppedLoop(), capacity, 20, {"flood": weight, "calm": 1})
    rush.want("flood", capacity + WAITING_MAX)
    rush.want("calm")
    assert rush.end_one() == "calm"
    rush.close()


def test_tenants_with_more_than_their_share_take_turns_by_weight_too():
    rush = Rush(SteppedLoop(), 12, 1, {"heavy": 2, "light": 1})  # a share of one place: both are above it
    rush.want("heavy", 6)
    rush.want("light", 6)
    rush.want("heavy", WAITING_MAX)
    rush.want("light", WAITING_MAX)
    served = Counter(rush.end_one() for _ in range(300))
    assert served == {"heavy": 200, "light": 100}
    rush.close()
