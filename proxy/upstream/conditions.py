"""What this process knows of every deployment: breakers, throttles, health, budgets of retries.

Kept over reloads of the configuration. Bounded: of the entries that callers can make (by their own provider keys, by
models that nobody routes), those that were used longest ago are forgotten.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from proxy.upstream.breaker import Breaker, BreakerState
from proxy.upstream.retry_budget import RetryBudget
from proxy.upstream.throttle import Throttle
from proxy.upstream.vitals import Vitals, first_bytes_us

CONDITIONS_MAX: Final = 10_000
CALM_US: Final = 120_000_000
"""By then no breaker is open, no throttle holds, and every score has healed."""
_LOOK_AGAIN_US: Final = 1_000_000


class Condition:
    """Of one deployment, for one provider key."""

    __slots__ = ("breaker", "throttle", "vitals")

    def __init__(self, vitals: Vitals) -> None:
        self.breaker = Breaker()
        self.throttle = Throttle()
        self.vitals = vitals

    def blocked_us(self, now_us: int) -> int:
        """How long it is not to be asked, as far as can be told; 0: it may be."""
        if not self.breaker.admits(now_us):
            return _LOOK_AGAIN_US
        return self.throttle.left_us(now_us)


class Status(NamedTuple):
    """A deployment's, over all provider keys."""

    label: str
    health: float
    state: BreakerState  # of the gateway's own key
    throttled_us: int
    in_flight: int


class Conditions:
    """All of them."""

    __slots__ = ("_budgets", "_of_callers", "_own", "_troubled_at_us", "_vitals")

    def __init__(self) -> None:
        self._vitals: dict[str, Vitals] = {}
        self._own: dict[str, Condition] = {}  # for the gateway's own key
        self._of_callers: OrderedDict[tuple[str, object], Condition] = OrderedDict()
        self._budgets: dict[str, RetryBudget] = {}
        self._troubled_at_us = -CALM_US

    def troubled(self, now_us: int) -> None:
        """Something failed somewhere."""
        self._troubled_at_us = now_us

    def are_calm(self, now_us: int) -> bool:
        """True where nothing has failed for so long that every deployment is well: none needs to be looked at."""
        return now_us - self._troubled_at_us >= CALM_US

    def vitals(self, label: str) -> Vitals:
        """How a deployment of the configuration has done."""
        known = self._vitals.get(label)
        if known is None:
            known = self._vitals[label] = Vitals()
        return known

    def first_bytes_us(self, labels: Collection[str], now_us: int, *, stream: bool) -> list[float]:
        """How soon the answers of each of these deployments begin: see `Vitals.first_byte_us`."""
        try:
            return first_bytes_us(map(self._vitals.__getitem__, labels), now_us, stream=stream)
        except KeyError:  # one of them was never looked at
            return first_bytes_us(map(self.vitals, labels), now_us, stream=stream)

    def find(self, name: str, label: str, payer: object) -> Condition:
        """The condition of a deployment for whoever pays: a value that tells provider keys apart, None being
        the gateway's own. `name` is what the configuration calls the deployment, or the provider alone where a
        caller has named the model; `label` names that model too, so that one that fails closes nothing for others."""
        if payer is None and name == label:
            own = self._own.get(name)
            if own is None:
                own = self._own[name] = Condition(self.vitals(name))
            return own
        whose = (label, payer)
        known = self._of_callers.get(whose)
        if known is None:
            if len(self._of_callers) >= CONDITIONS_MAX:
                self._of_callers.popitem(last=False)
            known = self._of_callers[whose] = Condition(self.vitals(name))
        else:
            self._of_callers.move_to_end(whose)
        return known

    def own(self) -> Iterator[tuple[str, Condition]]:
        """Each deployment's for the gateway's own key, by its name."""
        yield from list(self._own.items())

    def budget(self, provider: str) -> RetryBudget:
        """How often calls to a provider may be sent again."""
        known = self._budgets.get(provider)
        if known is None:
            known = self._budgets[provider] = RetryBudget()
        return known

    def statuses(self, now_us: int) -> Iterator[Status]:
        """How each deployment does that was asked since this process began."""
        for label, vitals in self._vitals.items():
            own = self._own.get(label)
            state = BreakerState.CLOSED if own is None else own.breaker.state(now_us)
            throttled_us = 0 if own is None else own.throttle.left_us(now_us)
            yield Status(label, vitals.score(now_us), state, throttled_us, vitals.in_flight)
