"""What admission is meant to do, in the plainest way: a list of reservations, summed up anew each time.

Independent of `proxy.admission`'s arithmetic: amounts are sums over reservations, buckets are
levels that fill up. Amounts are nano-dollars, times milliseconds since `T0_MS`.
"""

from dataclasses import dataclass, field

from tests.admission_stores import DAY_START_S, T0_S

HOUR_MS = 3_600_000
HOURS_KEPT = 26  # from its beginning on; then it is over: nobody asks for it, and what is spent late of it is dropped
DAY_END_MS = (DAY_START_S - T0_S) * 1_000 + 24 * HOUR_MS  # of T0's day

Window = tuple[str, int | None]  # kind, cap


@dataclass(frozen=True)
class Scope:
    """One scope's limits."""

    name: str
    windows: tuple[Window, ...] = ()  # in the order of the answers
    requests_per_minute: int | None = None
    burst: int | None = None
    tokens_per_minute: int | None = None
    max_concurrency: int | None = None


@dataclass
class Held:
    """One reservation, for ever."""

    run: str
    scopes: tuple[Scope, ...]
    hour: int  # in which it was admitted, from T0's on
    held: int
    tokens: int
    lease_until: int
    state: str = "pending"
    spent: int = 0
    spent_in_hour: int = 0  # what its hour was told of that
    ended: int = 0
    answer: object = None


@dataclass
class Bucket:
    """A level that fills up: microseconds' worth of what it holds."""

    capacity: int
    level: int
    at: int = 0  # ms

    def now(self, now: int) -> int:
        self.level, self.at = min(self.capacity, self.level + (now - self.at) * 1_000), now
        return self.level


@dataclass
class Model:
    """One tenant."""

    now: int = 0
    reservations: dict[str, Held] = field(default_factory=dict)
    rows: list[tuple[str, int]] = field(default_factory=list)  # run, amount
    buckets: dict[tuple[str, str], Bucket] = field(default_factory=dict)
    hits: set[str] = field(default_factory=set)  # runs
    purged: dict[str, int] = field(default_factory=dict)  # by model, "" for all: before when
    revoked: set[str] = field(default_factory=set)

    # ── sums ─────────────────────────────────────────────────────────────────────────────

    def is_over(self, hour: int) -> bool:
        return hour + HOURS_KEPT <= self.now // HOUR_MS

    def amounts(self, scope: str, hours: range | None = None) -> tuple[int, int]:
        """I2 and I3, as definitions: (spent, held) of a scope, in all or in some hours."""
        touching = [
            each
            for each in self.reservations.values()
            if scope in [s.name for s in each.scopes] and (hours is None or each.hour in hours)
        ]
        held = sum(each.held for each in touching if each.state == "pending")
        return sum(each.spent if hours is None else each.spent_in_hour for each in touching), held

    def pending(self, scope: str | None = None) -> int:
        return sum(
            each.state == "pending" and (scope is None or scope in [s.name for s in each.scopes])
            for each in self.reservations.values()
        )

    def window(self, scope: str, kind: str, hour: int) -> tuple[int, int]:
        """What a window has spent and holds, for a reservation of that hour."""
        hours = {"hour": range(hour, hour + 1), "24h": self.rolling(hour), "total": None}
        return self.amounts(scope, hours[kind])

    def rolling(self, hour: int) -> range:
        """The hours that share 24 with it, of those that are kept and have begun."""
        now_hour = self.now // HOUR_MS
        last = min(max(hour, now_hour), hour + 24)
        return range(max(hour - 24, now_hour - HOURS_KEPT + 1), last + 1)

    # ── admission ────────────────────────────────────────────────────────────────────────

    def admit(self, run: str, scopes: tuple[Scope, ...], held: int, tokens: int, lease: int, *, restore=False):
        if not restore:
            self.expire(8)
        if run in self.reservations:
            return self.repeated(run)
        hour = self.now // HOUR_MS
        refusal = None if restore else self.refusal(scopes, held, tokens, hour)
        new = Held(run, scopes, hour, held, tokens, self.now + lease)
        if refusal is not None:
            new.state, new.ended, new.answer, new.held, new.scopes = "denied", self.now, refusal, 0, ()
            self.reservations[run] = new
            return refusal
        if not restore:
            self.take(scopes, tokens)
        self.reservations[run] = new
        return {"admitted": self.used(scopes, hour)}

    def repeated(self, run: str):
        known = self.reservations[run]
        if known.state == "pending":
            return {"admitted": self.used(known.scopes, known.hour), "repeated": True}
        return known.answer if known.state == "denied" else {"known": known.state}

    def put_back(self, run: str, held: int):
        known = self.reservations[run]
        if known.state == "pending":
            known.held = max(known.held, held)
        return self.repeated(run)

    def used(self, scopes: tuple[Scope, ...], hour: int) -> list[list[int]]:
        return [[sum(self.window(scope.name, kind, hour)) for kind, _ in scope.windows] for scope in scopes]

    def refusal(self, scopes: tuple[Scope, ...], more: int, tokens: int, hour: int):
        cap = self.cap_refusal(scopes, more, hour)
        if cap is not None:
            return cap
        for scope in scopes:
            if scope.max_concurrency is not None and self.pending(scope.name) >= scope.max_concurrency:
                return {"limit": [scope.name, "max_concurrency", 1_000]}
        return self.bucket_refusal([(scope, *asked) for scope in scopes for asked in self.asks(scope, tokens)])

    def bucket_refusal(self, asks: list[tuple[Scope, str, int]]):
        waits: list[tuple[int, str, str]] = []
        for scope, limit, amount in asks:
            bucket = self.bucket(scope, limit)
            if bucket.now(self.now) < min(bucket.capacity, amount):
                missing = min(bucket.capacity, amount) - bucket.level
                waits.append((-(-missing // 1_000), scope.name, limit))
        if not waits:
            return None
        wait, name, limit = max(waits, key=lambda each: each[0])
        return {"limit": [name, limit, wait]}

    def hit(self, run: str, scopes: tuple[Scope, ...], alias: str, asked: int, virtual_key: str | None):
        """A kept answer is given out: it takes of the buckets of requests, and its row is worth nothing."""
        if virtual_key in self.revoked:
            return "revoked"
        if asked < max(self.purged.get("", 0), self.purged.get(alias, 0)):
            return "purged"
        asks = [(scope, *each) for scope in scopes for each in self.asks(scope, 0) if each[0] == "requests_per_minute"]
        if run not in self.hits:
            refusal = self.bucket_refusal(asks)
            if refusal is not None:
                return refusal
            for scope, limit, amount in asks:
                self.bucket(scope, limit).level -= amount
            self.hits.add(run)
            self.rows.append((run, 0))
        buckets = [self.bucket(scope, limit) for scope, limit, _ in asks]
        return {"hit": [(bucket.capacity - bucket.now(self.now)) // 1_000 for bucket in buckets]}

    def purge(self, alias: str, before: int) -> None:
        self.purged[alias] = max(self.purged.get(alias, 0), before)

    def cap_refusal(self, scopes: tuple[Scope, ...], more: int, hour: int):
        for scope in scopes:
            for kind, cap in scope.windows:
                spent, held = self.window(scope.name, kind, hour)
                if cap is not None and spent + held + more > cap:
                    resets = self.resets(scope.name, kind, cap, more, hour)
                    return {"cap": [scope.name, kind, cap, spent, held, more, resets]}
        return None

    def resets(self, scope: str, kind: str, cap: int, more: int, hour: int) -> int | None:
        if kind == "total":
            return None
        if kind == "hour":
            return (hour + 1) * HOUR_MS
        hours = self.rolling(hour)
        for first in hours:
            if sum(self.amounts(scope, range(first + 1, hours.stop))) + more <= cap:
                return (first + 25) * HOUR_MS
        return None

    # ── buckets ──────────────────────────────────────────────────────────────────────────

    def asks(self, scope: Scope, tokens: int) -> list[tuple[str, int]]:
        asked = []
        if scope.requests_per_minute is not None:
            asked.append(("requests_per_minute", self.worth(1, scope.requests_per_minute)))
        if scope.tokens_per_minute is not None:
            asked.append(("tokens_per_minute", self.worth(tokens, scope.tokens_per_minute)))
        return asked

    @staticmethod
    def worth(amount: int, per_minute: int) -> int:
        """The microseconds in which so much flows back, rounded up."""
        return (amount * 60_000_000 + per_minute - 1) // per_minute

    def bucket(self, scope: Scope, limit: str) -> Bucket:
        capacity = 60_000_000
        if limit == "requests_per_minute":
            assert scope.requests_per_minute is not None
            capacity = (scope.burst or scope.requests_per_minute) * self.worth(1, scope.requests_per_minute)
        return self.buckets.setdefault((scope.name, limit), Bucket(capacity, capacity, self.now))

    def take(self, scopes: tuple[Scope, ...], tokens: int) -> None:
        for scope in scopes:
            for limit, amount in self.asks(scope, tokens):
                bucket = self.bucket(scope, limit)
                bucket.level = bucket.now(self.now) - amount

    def correct(self, reservation: Held, tokens: int) -> None:
        for scope in reservation.scopes:
            if scope.tokens_per_minute is not None:
                bucket = self.bucket(scope, "tokens_per_minute")
                more = self.worth(tokens, scope.tokens_per_minute)
                more -= self.worth(reservation.tokens, scope.tokens_per_minute)
                bucket.level = min(bucket.capacity, bucket.now(self.now) - more)

    # ── ends ─────────────────────────────────────────────────────────────────────────────

    def settle(self, run: str, cost: int, tokens: int | None):
        known = self.reservations.get(run)
        if known is None:
            return ["unknown", 0, 0]
        if known.state not in ("pending", "expired"):
            numbers = [known.spent, known.held] if known.state == "settled" else [0, 0]
            code = {"settled": "already_settled", "released": "released", "denied": "denied"}[known.state]
            return [code, *numbers]
        late = known.state == "expired"
        self.rows.append((run, cost - known.held if late else cost))
        self.correct(known, known.tokens if tokens is None else tokens)
        if not (late and self.is_over(known.hour)):
            known.spent_in_hour = cost
        known.state, known.spent, known.ended = "settled", cost, self.now
        return ["corrected" if late else "settled", cost, known.held]

    def post(self, run: str, scopes: tuple[Scope, ...], cost: int):
        if run in self.reservations:
            return self.settle(run, cost, None)
        self.rows.append((run, cost))
        hour = self.now // HOUR_MS
        self.reservations[run] = Held(run, scopes, hour, 0, 0, 0, "settled", cost, cost, self.now)
        return ["posted", cost, 0]

    def release(self, run: str) -> str:
        known = self.reservations.get(run)
        if known is None:
            self.reservations[run] = Held(run, (), 0, 0, 0, 0, "released", ended=self.now)
            return "forestalled"
        if known.state != "pending":
            return "already_released" if known.state == "released" else known.state
        self.correct(known, 0)
        known.state, known.ended = "released", self.now
        return "released"

    def grow(self, run: str, held: int):
        known = self.reservations.get(run)
        if known is None or known.state != "pending":
            return {"not_pending": None if known is None else known.state}
        if held <= known.held:
            return {"grown": known.held}
        refusal = self.cap_refusal(known.scopes, held - known.held, known.hour)
        if refusal is None:
            known.held = held
        return refusal or {"grown": held}

    def extend(self, runs: list[str], lease: int) -> list[str]:
        pending = [run for run in runs if run in self.reservations and self.reservations[run].state == "pending"]
        for run in pending:
            self.reservations[run].lease_until = self.now + lease
        return [run for run in runs if run not in pending]

    def expire(self, at_most: int) -> int:
        due = [each for each in self.reservations.values() if each.state == "pending" and each.lease_until <= self.now]
        for each in sorted(due, key=lambda each: (each.lease_until, each.run))[:at_most]:
            each.state, each.ended = "expired", self.now
            each.spent = each.spent_in_hour = each.held
            self.rows.append((each.run, each.held))
        return min(len(due), at_most)
