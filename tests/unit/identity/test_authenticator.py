import asyncio
from ipaddress import ip_network
from typing import Any, cast

import pytest

from proxy.core.clock import Clock
from proxy.core.errors import InvalidApiKey, StateUnavailable, TenantNotAllowed
from proxy.core.limits import ScopeLimits
from proxy.core.secret import Secret
from proxy.core.types import Caller, InboundRequest
from proxy.identity import lookup_cache as module
from proxy.identity.authenticator import Authenticator, make_virtual_key_cache
from proxy.identity.store import Found, VirtualKeyStore
from proxy.identity.tenant import TenantRecord
from proxy.identity.tenant_store import TenantStore
from proxy.identity.tenants import Tenants, make_tenant_cache
from proxy.identity.virtual_key import PepperedDigest, VirtualKey, digest, mint, pepper_fingerprint
from proxy.settings.model import AuthMode, AuthSettings, Settings, TenantSettings

NEW_PEPPER, OLD_PEPPER = b"n" * 32, b"o" * 32
START_US = 1_700_000_000_000_000


class SteppedClock(Clock):
    __slots__ = ("now_us",)

    def __init__(self) -> None:
        self.now_us = START_US

    def now_ms(self) -> int:
        return self.now_us // 1_000

    def monotonic_us(self) -> int:
        return self.now_us


class ScriptedStore:
    """Answers `find` from a dict, counts the questions, and can be away or slow."""

    def __init__(self) -> None:
        self.records: dict[str, VirtualKey] = {}
        self.peppers: dict[str, str] = {}  # by id, of what is noted
        self.asked: list[tuple[str, ...]] = []
        self.away = False
        self.gate: asyncio.Event | None = None

    async def find(self, digests):
        self.asked.append(tuple(digests))
        if self.gate is not None:
            await self.gate.wait()
        if self.away:
            raise StateUnavailable("away", retry_after_ms=1_000)
        known = ((self.records[one], place) for place, one in enumerate(digests) if one in self.records)
        return next((Found(record, place, self.peppers.get(record.id, "")) for record, place in known), None)


class ScriptedTenants:
    """The tenants that were put at run time."""

    def __init__(self) -> None:
        self.records: dict[str, TenantRecord] = {}
        self.asked: list[str] = []
        self.away = False

    async def find(self, tenant_id):
        self.asked.append(tenant_id)
        if self.away:
            raise StateUnavailable("away", retry_after_ms=1_000)
        return self.records.get(tenant_id)


class House:
    """An authenticator, and what stands around it."""

    def __init__(self, *, peppers=(NEW_PEPPER,), known_tenants=(), **auth) -> None:
        self.clock, self.store, self.cache = SteppedClock(), ScriptedStore(), make_virtual_key_cache()
        self.tenant_store, self.tenant_cache = ScriptedTenants(), make_tenant_cache()
        self.peppers, self.auth = peppers, AuthSettings(**auth)
        self.older: list[tuple[str, PepperedDigest, PepperedDigest]] = []
        self.settings = Settings(auth=self.auth, tenants={name: TenantSettings(name) for name in known_tenants})
        self.reload()

    def reload(self, has_store: bool = True) -> None:
        self.authenticator = Authenticator(
            auth=self.auth,
            tenants=Tenants(self.settings, cast(TenantStore, self.tenant_store), self.tenant_cache, self.clock),
            store=cast(VirtualKeyStore, self.store) if has_store else None,  # `find` is all that is asked of it
            cache=self.cache,
            peppers=self.peppers,
            clock=self.clock,
            on_older=lambda *noted: self.older.append(noted),
        )

    def issue(self, number: int = 0, pepper: bytes = NEW_PEPPER, **fields) -> str:
        token = mint(number.to_bytes(32, "big")).reveal()
        values: dict[str, Any] = {"tenant_id": "acme", "created_at_ms": 1, "last_four": "0000"} | fields
        record = VirtualKey(f"vk_{number}", **values)
        self.store.records[digest(token, pepper)] = record
        return token

    async def ask(self, token: str | None, peer: str | None = "127.0.0.1", **headers: str) -> Caller:
        fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        if token is not None:
            fields.append((b"authorization", f"Bearer {token}".encode()))
        request = InboundRequest(
            method="POST", path="/v1/x", endpoint_path="/x", segments=("x",), query="", headers=tuple(fields), peer=peer
        )
        return await self.authenticator.authenticate(request)

    def later(self, seconds: float) -> None:
        self.clock.now_us += int(seconds * 1_000_000)


async def test_a_key_makes_its_caller():
    house = House()
    token = house.issue(user="ann", allowed_models=frozenset({"m"}))
    assert await house.ask(token) == Caller("acme", "ann", None, "vk_0", frozenset({"m"}))
    assert await house.ask(token, x_tollway_feature="sql") == Caller("acme", "ann", "sql", "vk_0", frozenset({"m"}))
    assert (await house.ask(token)).feature is None  # one request's header is not the next one's


async def test_a_known_key_costs_no_round_trip_for_five_seconds():
    house = House()
    token = house.issue()
    for _ in range(3):
        await house.ask(token)
        house.later(2.4)  # the last question is 4.8 s after the first
    assert len(house.store.asked) == 1
    house.later(0.3)
    await house.ask(token)
    assert len(house.store.asked) == 2


async def test_a_revocation_is_seen_within_five_seconds():
    house = House()
    token = house.issue()
    await house.ask(token)
    house.issue(revoked_at_ms=5)
    house.later(5.1)
    with pytest.raises(InvalidApiKey, match="revoked"):
        await house.ask(token)


async def test_expiry_is_seen_at_once_though_the_key_is_cached():
    house = House()
    token = house.issue(expires_at_ms=START_US // 1_000 + 1_000)
    await house.ask(token)
    house.later(0.999)
    await house.ask(token)
    house.later(0.001)
    with pytest.raises(InvalidApiKey, match="expired"):
        await house.ask(token)
    assert len(house.store.asked) == 1


async def test_an_unknown_key_is_remembered_too_and_can_become_known():
    house = House()
    token = mint(bytes(32)).reveal()
    for _ in range(3):
        with pytest.raises(InvalidApiKey, match="not known"):
            await house.ask(token)
    assert len(house.store.asked) == 1
    house.issue()
    house.later(5.1)
    assert (await house.ask(token)).tenant_id == "acme"


@pytest.mark.parametrize("token", ["sk-proj-abcdefghijklmnop", "twk_", "x", "twk_" + "a" * 49, "é"])
async def test_a_malformed_token_never_reaches_the_store(token):
    house = House()
    house.store.away = True  # and so it is 401 even while the store is away
    with pytest.raises(InvalidApiKey):
        await house.ask(token)
    assert house.store.asked == []


async def test_no_token_names_the_headers_that_could_hold_one():
    with pytest.raises(InvalidApiKey, match=r"Authorization: Bearer.*x-api-key.*api-key"):
        await House().ask(None)


@pytest.mark.parametrize("token", [mint(bytes(range(32))).reveal(), "sk-proj-0123456789abcdefghijklmnop", "short-one"])
async def test_a_refusal_shows_at_most_the_last_four_characters(token):
    with pytest.raises(InvalidApiKey) as refused:
        await House().ask(token)
    for start in range(len(token) - 4):
        assert token[start : start + 5] not in refused.value.message


async def test_a_key_under_an_older_pepper_is_found_after_the_newest():
    house = House(peppers=(NEW_PEPPER, OLD_PEPPER))
    token = house.issue(pepper=OLD_PEPPER)
    assert (await house.ask(token)).virtual_key_id == "vk_0"
    assert house.store.asked == [(digest(token, NEW_PEPPER), digest(token, OLD_PEPPER))]
    await house.ask(token)
    assert len(house.store.asked) == 1


@pytest.mark.parametrize(
    ("pepper", "noted", "moves_on"),
    [
        (NEW_PEPPER, pepper_fingerprint(NEW_PEPPER), False),
        (NEW_PEPPER, "", True),  # issued before peppers were noted
        (OLD_PEPPER, pepper_fingerprint(OLD_PEPPER), True),
        (OLD_PEPPER, "", True),
    ],
)
async def test_a_key_that_is_not_noted_under_the_newest_pepper_is_moved_on_once_a_lookup(pepper, noted, moves_on):
    house = House(peppers=(NEW_PEPPER, OLD_PEPPER))
    token = house.issue(pepper=pepper)
    house.store.peppers["vk_0"] = noted
    await asyncio.gather(*(house.ask(token) for _ in range(3)))
    known = PepperedDigest(digest(token, pepper), pepper_fingerprint(pepper))
    newest = PepperedDigest(digest(token, NEW_PEPPER), pepper_fingerprint(NEW_PEPPER))
    assert house.older == ([("vk_0", known, newest)] if moves_on else [])


@pytest.mark.parametrize("ended", [{"revoked_at_ms": 1}, {"expires_at_ms": 2}])
async def test_a_key_that_works_no_more_is_not_moved_on(ended):
    house = House(peppers=(NEW_PEPPER, OLD_PEPPER))
    with pytest.raises(InvalidApiKey):
        await house.ask(house.issue(pepper=OLD_PEPPER, **ended))
    assert house.older == []


async def test_a_key_under_a_pepper_that_was_dropped_is_unknown():
    house = House()
    with pytest.raises(InvalidApiKey, match="not known"):
        await house.ask(house.issue(pepper=OLD_PEPPER))


async def test_a_reload_keeps_what_is_known():
    house = House()
    token = house.issue()
    await house.ask(token)
    house.reload()
    await house.ask(token)
    assert len(house.store.asked) == 1


async def test_many_at_once_share_one_lookup():
    house = House()
    token = house.issue()
    house.store.gate = asyncio.Event()
    asking = [asyncio.create_task(house.ask(token)) for _ in range(50)]
    await asyncio.sleep(0)
    house.store.gate.set()
    callers = await asyncio.gather(*asking)
    assert {caller.virtual_key_id for caller in callers} == {"vk_0"}
    assert len(house.store.asked) == 1


async def test_one_who_hangs_up_does_not_end_the_lookup_of_the_others():
    house = House()
    token = house.issue()
    house.store.gate = asyncio.Event()
    first, second = asyncio.create_task(house.ask(token)), asyncio.create_task(house.ask(token))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    house.store.gate.set()
    assert (await second).virtual_key_id == "vk_0"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_store_that_does_not_answer_is_given_up():
    house = House()
    house.store.gate = asyncio.Event()
    async with asyncio.timeout(5):
        with pytest.raises(StateUnavailable) as refused:
            await house.ask(house.issue())
    assert refused.value.retry_after_ms is not None


async def test_an_outage_is_503_for_a_key_that_is_not_known_here():
    house = House()
    house.store.away = True
    for token in (house.issue(), mint(b"x" * 32).reveal()):
        with pytest.raises(StateUnavailable) as refused:
            await house.ask(token)
        assert refused.value.retry_after_ms == 1_000


async def test_an_outage_is_503_for_a_key_that_was_unknown_before_it():
    house = House()
    token = mint(bytes(32)).reveal()
    with pytest.raises(InvalidApiKey):
        await house.ask(token)
    house.store.away = True
    house.later(5.1)
    with pytest.raises(StateUnavailable):
        await house.ask(token)


async def test_a_key_that_was_confirmed_goes_on_for_a_minute_of_outage_and_no_longer():
    house = House()
    token = house.issue()
    await house.ask(token)
    house.store.away = True
    for _ in range(9):
        house.later(6.5)
        await house.ask(token)
    house.later(1.4)  # 59.9 s
    await house.ask(token)
    house.later(0.2)  # 60.1 s
    with pytest.raises(StateUnavailable):
        await house.ask(token)


async def test_while_the_store_is_away_it_is_asked_once_a_second():
    house = House()
    token = house.issue()
    await house.ask(token)
    house.store.away = True
    house.later(6)
    for _ in range(10):
        await house.ask(token)
    assert len(house.store.asked) == 2
    house.later(1.1)
    await house.ask(token)
    assert len(house.store.asked) == 3


async def test_a_revoked_or_expired_key_does_not_come_back_in_an_outage():
    house = House()
    revoked = house.issue(1, revoked_at_ms=5)
    expiring = house.issue(2, expires_at_ms=START_US // 1_000 + 8_000)
    with pytest.raises(InvalidApiKey):
        await house.ask(revoked)
    await house.ask(expiring)
    house.store.away = True
    house.later(10)
    for token in (revoked, expiring):
        with pytest.raises(InvalidApiKey):
            await house.ask(token)


async def test_a_key_that_the_store_no_longer_knew_does_not_come_back_in_an_outage():
    house = House()
    token = house.issue()
    await house.ask(token)
    house.store.records.clear()
    house.later(5.1)
    for _ in range(2):
        with pytest.raises(InvalidApiKey):
            await house.ask(token)
    assert len(house.store.asked) == 2
    house.store.away = True
    house.later(5.1)
    with pytest.raises(StateUnavailable):
        await house.ask(token)


async def test_after_an_outage_the_store_has_the_last_word():
    house = House()
    token = house.issue()
    await house.ask(token)
    house.store.away = True
    house.later(10)
    await house.ask(token)
    house.store.away = False
    house.store.records.clear()
    house.later(1.1)
    with pytest.raises(InvalidApiKey, match="not known"):
        await house.ask(token)


async def test_the_cache_is_bounded_and_guessing_does_not_push_known_keys_out(monkeypatch):
    monkeypatch.setattr(module, "KNOWN_MAX", 10)
    monkeypatch.setattr(module, "UNKNOWN_MAX", 10)
    house = House()
    tokens = [house.issue(number) for number in range(11)]
    for token in tokens:
        await house.ask(token)
    for number in range(100, 150):
        with pytest.raises(InvalidApiKey):
            await house.ask(mint(number.to_bytes(32, "big")).reveal())
    house.store.asked.clear()
    for token in tokens[1:]:
        await house.ask(token)
    assert house.store.asked == []
    await house.ask(tokens[0])  # the oldest is out
    assert len(house.store.asked) == 1


async def test_a_key_that_was_looked_up_again_is_not_the_oldest(monkeypatch):
    monkeypatch.setattr(module, "KNOWN_MAX", 3)
    house = House()
    tokens = [house.issue(number) for number in range(4)]
    for token in tokens[:3]:
        await house.ask(token)
    house.later(5.1)
    await house.ask(tokens[0])
    await house.ask(tokens[3])  # pushes out the second, not the first
    house.store.asked.clear()
    await house.ask(tokens[0])
    assert house.store.asked == []


async def test_lookups_at_one_moment_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "LOOKUPS_MAX", 3)
    house = House()
    tokens = [house.issue(number) for number in range(4)]
    house.store.gate = asyncio.Event()
    asking = [asyncio.create_task(house.ask(token)) for token in tokens[:3]]
    await asyncio.sleep(0)
    with pytest.raises(StateUnavailable):
        await house.ask(tokens[3])
    house.store.gate.set()
    await asyncio.gather(*asking)


async def test_known_tenants_only():
    house = House(known_tenants_only=True, known_tenants=("acme",))
    await house.ask(house.issue(1))
    await house.ask(house.issue(2, tenant_id="default"))  # exists though nobody wrote it down
    with pytest.raises(TenantNotAllowed, match="not known"):
        await house.ask(house.issue(3, tenant_id="stranger"))
    open_house = House(known_tenants=("acme",))
    await open_house.ask(open_house.issue(3, tenant_id="stranger"))
    assert open_house.tenant_store.asked == []  # who is let in whoever it is, is not looked up here


async def test_a_tenant_that_was_put_at_run_time_is_known_too():
    house = House(known_tenants_only=True, known_tenants=("acme",))
    house.tenant_store.records["late"] = TenantRecord("late", 1, 1)
    await house.ask(house.issue(1))
    assert house.tenant_store.asked == []  # the file knows it
    for _ in range(2):
        await house.ask(house.issue(2, tenant_id="late"))
    assert house.tenant_store.asked == ["late"]


async def test_while_the_store_is_away_a_tenant_that_is_not_known_here_is_503():
    house = House(known_tenants_only=True)
    house.tenant_store.away = True
    with pytest.raises(StateUnavailable):
        await house.ask(house.issue(tenant_id="late"))


async def test_a_key_hands_its_own_limits_on():
    house = House()
    limits = ScopeLimits(requests_per_minute=6, burst=6)
    assert (await house.ask(house.issue(1, limits=limits))).virtual_key_limits == limits
    assert (await house.ask(house.issue(2))).virtual_key_limits is None


async def test_passthrough_asks_no_store():
    house = House(mode=AuthMode.PASSTHROUGH, default_tenant="own")
    assert await house.ask("sk-own") == Caller("own", provider_token=Secret("sk-own"))
    assert await house.ask(None) == Caller("own")
    assert house.store.asked == []


async def test_trusted_headers_are_believed_from_trusted_peers_alone():
    house = House(mode=AuthMode.TRUSTED_HEADERS, trusted_peers=(ip_network("10.0.0.0/8"),))
    for peer in ("127.0.0.1", None, "10.1.1.1"):
        assert await house.ask(None, peer=peer, x_tollway_tenant="acme") == Caller("acme")
    with pytest.raises(TenantNotAllowed):
        await house.ask(None, peer="192.168.0.1", x_tollway_tenant="acme")


@pytest.mark.parametrize(("has_store", "peppers"), [(False, (NEW_PEPPER,)), (True, ())])
def test_virtual_keys_need_a_store_and_a_pepper(has_store, peppers):
    house = House(mode=AuthMode.TRUSTED_HEADERS)
    house.auth, house.peppers = AuthSettings(), peppers
    with pytest.raises(AssertionError):
        house.reload(has_store)
