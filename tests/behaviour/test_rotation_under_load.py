"""Promise: a KEK, a data key, a provider key or a pepper is rotated while calls run, and not one of them fails."""

import asyncio
import base64
import contextlib
import itertools
import json
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from proxy.adapters import kms as kms_door
from proxy.administration.desk import open_desk
from proxy.administration.peppers import PepperAdministration
from proxy.administration.virtual_keys import Wanted
from proxy.app.keyring import connect_keyring, keyring_store
from proxy.app.stores import connect_stores, peppers_of
from proxy.core.clock import Clock
from proxy.core.errors import StateUnavailable
from proxy.core.origin import origin_of
from proxy.core.secret import Secret
from proxy.identity.virtual_key import pepper_fingerprint
from proxy.keyring import keyring
from proxy.keyring.rotation import Rotated
from proxy.settings.load import load
from proxy.telemetry.metrics import Metrics
from tests.gateway import JSON, Gateway, error_of, plain_request, priced_to, running_gateway
from tests.keyrings import ignore
from tests.load import CHAT, Load, number_of
from tests.redis_server import emptied
from tests.scripted_upstream import answer, scripted_upstream
from tests.strict_kms import StrictKms

USAGE = answer(b'{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5}}')
Result = TypeVar("Result")
LIMITED = "[plans.default.tenant]\nrequests_per_minute = 1_000_000\n"
TENANTS = ["acme", "globex", "initech"]
FORGETS_EVERY_S = 0.02  # the KMS and its client run in this process too: opening may not take all of a slow machine


class MovedClock(Clock):
    """Runs, and is moved on by hand."""

    __slots__ = ("ahead_us",)

    def __init__(self) -> None:
        self.ahead_us = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_us // 1_000

    def monotonic_us(self) -> int:
        return super().monotonic_us() + self.ahead_us


@pytest.fixture(autouse=True)
def patient_kms(monkeypatch) -> None:
    """A busy machine must not look like a KMS that is away."""
    monkeypatch.setattr(keyring, "WAIT_S", 5.0)
    monkeypatch.setattr(kms_door, "CONNECT_TIMEOUT_S", 5.0)
    monkeypatch.setattr(kms_door, "READ_TIMEOUT_S", 5.0)


@pytest.fixture(params=["sqlite", "redis"])
async def state_url(request, tmp_path) -> str:
    """Of a store that several gateways share; empty."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path / 'shared.db'}"
    url: str = request.getfixturevalue("redis_url")
    await emptied(url)
    return url


@pytest.fixture
def kms(monkeypatch):
    for name, value in (("AWS_ACCESS_KEY_ID", "serving"), ("AWS_SECRET_ACCESS_KEY", "x")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with StrictKms() as server:
        yield server


def secret_of_32() -> str:
    return base64.b64encode(os.urandom(32)).decode()


def ring(*keks: str, url: str | None = None) -> str:
    endpoint = f'kms_endpoint_url = "{url}"\n' if url else ""
    return f"[keyring]\nkek = {json.dumps(list(keks))}\n{endpoint}"


def of_tenant(tenant: str):
    return lambda: [*JSON, (b"x-tollway-tenant", tenant.encode())]


async def put(gateway: Gateway, tenant: str, secret: str) -> None:
    assert gateway.app.keyring is not None
    origin = origin_of(gateway.app.snapshots.current.settings.providers["scripted"].base_url)
    await gateway.app.keyring.put(tenant, "scripted", None, origin, Secret(secret), 1)


@asynccontextmanager
async def keyring_of_another_process(gateway: Gateway):
    """Over the same store and KEKs, with a memory of its own: as a command beside the gateway has it."""
    settings = gateway.app.snapshots.current.settings
    stores = connect_stores(settings, Clock())
    keyring = connect_keyring(settings, stores.door, Clock(), Metrics())
    assert keyring is not None
    await keyring.connect(30)  # loading boto3 in this process, of all, would hold up the gateway's loop
    try:
        yield keyring
    finally:
        await keyring.stop()
        await stores.door.close()


async def insisted(begin: Callable[[], Awaitable[Result]]) -> Result:
    """What a person does who is told that the store did not answer in time: run it again, and it goes on."""
    for _ in range(20):
        with contextlib.suppress(StateUnavailable):
            return await begin()
    return await begin()


@asynccontextmanager
async def forgetful(gateway: Gateway):
    """A gateway that has to open its tenants' keys anew all the time, as many cold ones do."""
    assert gateway.app.keyring is not None
    keyring, forgetting = gateway.app.keyring, True

    async def forget() -> None:
        for tenant in itertools.cycle(TENANTS):
            if not forgetting:
                return
            keyring.drop(tenant)
            await asyncio.sleep(FORGETS_EVERY_S)

    task = asyncio.create_task(forget())
    try:
        yield
    finally:
        forgetting = False
        await task


def shown(upstream, load: Load) -> dict[int, str]:
    """What the provider was shown for each call."""
    keys = {number_of(each): (each.header(b"authorization") or b"").decode() for each in upstream.received}
    assert len(keys) == len(upstream.received)  # none was sent twice
    return {served.number: keys[served.number].removeprefix("Bearer ") for served in load.served}


@pytest.mark.parametrize("kind", ["local", "kms"])
async def test_a_kek(kind, state_url, request):
    kms = request.getfixturevalue("kms") if kind == "kms" else None
    environ = {"OLD": secret_of_32(), "NEW": secret_of_32()}
    old, new = ("env:OLD", "env:NEW") if kms is None else (f"aws-kms:{kms.add_key()}" for _ in range(2))
    url = None if kms is None else kms.url
    async with scripted_upstream(USAGE) as upstream:

        def gateway_with(*keks: str):
            text = priced_to(upstream.base_url) + ring(*keks, url=url) + LIMITED
            return running_gateway(text, environ=environ, state_url=state_url)

        async with gateway_with(old) as gateway:
            for tenant in TENANTS:
                await put(gateway, tenant, f"sk-of-{tenant}-itself")
        async with gateway_with(new, old) as gateway, keyring_of_another_process(gateway) as command:
            async with (
                forgetful(gateway),
                Load([gateway], [of_tenant(each) for each in TENANTS * 2], "priced") as under,
            ):
                if kms is not None:
                    kms.calls.clear()
                seen: list[Rotated] = []
                await under.during(insisted(lambda: command.rotate_kek(seen.append)))
                assert await command.rotate_kek(seen.append) == Rotated(3, 0, 0)
                if kms is not None:
                    assert kms.calls.count("ReEncrypt") >= 3
                    assert set(kms.calls) <= {"ReEncrypt", "Decrypt"}
            assert under.failures() == []
            assert set(shown(upstream, under).values()) == {f"sk-of-{tenant}-itself" for tenant in TENANTS}
        async with gateway_with(new) as gateway:  # the old one is not needed any more
            async with Load([gateway], [of_tenant(each) for each in TENANTS], "priced") as after:
                pass
            assert after.failures() == []


async def test_a_data_key(state_url):
    async with scripted_upstream(USAGE) as upstream:
        text = priced_to(upstream.base_url) + ring("file:kek") + LIMITED
        async with running_gateway(text, state_url=state_url) as gateway:
            for tenant in TENANTS:
                await put(gateway, tenant, f"sk-of-{tenant}-itself")
            async with keyring_of_another_process(gateway) as command, forgetful(gateway):
                async with Load([gateway], [of_tenant(each) for each in TENANTS * 2], "priced") as under:
                    for turn, tenant in itertools.product(range(3), TENANTS):
                        done = await under.during(insisted(partial(command.rotate_dek, tenant, turn, ignore)))
                        assert done.failed == 0
                    for tenant in TENANTS:
                        _, deks = await keyring_store(gateway.app.stores.door).deks(tenant)
                        assert [dek.created_at_ms for dek in deks] == [2]
            assert under.failures() == []
            assert set(shown(upstream, under).values()) == {f"sk-of-{tenant}-itself" for tenant in TENANTS}


@pytest.mark.parametrize("who", ["the gateway itself", "another process"])
async def test_a_provider_key(who, state_url):
    async with scripted_upstream(USAGE) as upstream:
        text = priced_to(upstream.base_url) + ring("file:kek") + LIMITED
        async with running_gateway(text, state_url=state_url) as gateway:
            await put(gateway, "acme", "sk-number-0-of-acmes-keys")
            async with keyring_of_another_process(gateway) as another:
                own = gateway.app.keyring
                assert own is not None
                keyring = own if who == "the gateway itself" else another
                async with Load([gateway], [of_tenant("acme")] * 6, "priced") as under:
                    for number in range(1, 9):
                        secret = Secret(f"sk-number-{number}-of-acmes-keys")
                        rotate = partial(keyring.rotate, "acme", "scripted", None, secret, number)
                        await under.during(insisted(rotate))
            assert under.failures() == []
            keys = shown(upstream, under)
            # The era that a call began in is that of its key, or of one that came while it was under way.
            versions = {served: int(keys[served.number].split("-")[2]) for served in under.served}
            stale = [
                (served.number, served.era, version) for served, version in versions.items() if served.era > version
            ]
            assert stale == []
            assert set(versions.values()) == set(range(9))


async def test_one_call_to_the_kms_for_a_tenant_in_its_max_age_while_calls_run(kms, state_url):
    clock = MovedClock()
    async with scripted_upstream(USAGE) as upstream:
        text = priced_to(upstream.base_url) + ring(f"aws-kms:{kms.add_key()}", url=kms.url) + LIMITED
        async with running_gateway(text, state_url=state_url) as gateway:
            for tenant in TENANTS:
                await put(gateway, tenant, f"sk-of-{tenant}-itself")
        kms.calls.clear()
        async with running_gateway(text, state_url=state_url, clock=clock) as gateway:
            async with Load([gateway], [of_tenant(each) for each in TENANTS * 4], "priced") as under:
                await under.more()
                assert kms.calls == ["Decrypt"] * len(TENANTS)
                clock.ahead_us += 290_000_000
                await under.more()
                assert len(kms.calls) == len(TENANTS)
                clock.ahead_us += 15_000_000
                await under.more()
                assert kms.calls == ["Decrypt"] * len(TENANTS) * 2
            assert under.failures() == []


# ── peppers ──────────────────────────────────────────────────────────────────────────────

SIMULATED = '[providers.simulated]\ntransport = "simulated"\n'


class Fleet:
    """Gateways over one store, each with a list of peppers of its own."""

    def __init__(self, state_url: str) -> None:
        self.state_url = state_url
        self.peppers = {"OLD": secret_of_32(), "NEW": secret_of_32()}
        self.gateways: list[Gateway] = []

    def text(self, *names: str) -> str:
        listed = json.dumps([f"env:{name}" for name in names])
        return f'[auth]\nmode = "virtual-keys"\ndefault_provider = "simulated"\npeppers = {listed}\n{SIMULATED}'

    def start(self, *names: str):
        return running_gateway(self.text(*names), environ=self.peppers, state_url=self.state_url)

    def reload(self, gateway: Gateway, *names: str) -> None:
        settings = load(self.text(*names), path="test.toml", environ=self.peppers, read_file=Path.read_text)
        gateway.app.reload(settings)

    def fingerprint(self, name: str) -> str:
        return pepper_fingerprint(base64.b64decode(self.peppers[name]))

    async def issue(self, gateway: Gateway) -> bytes:
        """A new virtual key's token, from this gateway."""
        settings, stores = gateway.app.snapshots.current.settings, gateway.app.stores
        desk = open_desk(settings, stores, lambda: peppers_of(settings)[0], Clock(), "test")
        return (await desk.virtual_keys.issue(Wanted("acme"))).token.reveal().encode()

    def administration(self, gateway: Gateway) -> PepperAdministration:
        settings, stores = gateway.app.snapshots.current.settings, gateway.app.stores
        desk = open_desk(settings, stores, lambda: peppers_of(settings)[0], Clock(), "test")
        return PepperAdministration(stores.virtual_keys, desk.virtual_keys, peppers_of(settings), Clock())


def bearer(token: bytes):
    return lambda: [*JSON, (b"authorization", b"Bearer " + token)]


async def served(gateway: Gateway, token: bytes) -> bool:
    body = b'{"model":"simulated","messages":[{"role":"user","content":"hi"}]}'
    status, _, said = await plain_request(gateway, "POST", CHAT, body, bearer(token)())
    assert status in (200, 401), said
    if status == 401:
        assert error_of(said)["code"] == "invalid_api_key"
    return status == 200


async def test_a_pepper(state_url):
    """The order of docs/state.md: at the end of every gateway's list, then at the front, then the old one goes."""
    fleet = Fleet(state_url)
    async with AsyncExitStack() as stack:
        gateways = [await stack.enter_async_context(fleet.start("OLD")) for _ in range(2)]
        first = gateways[0]
        tokens = [await fleet.issue(first) for _ in range(4)]
        unused = await fleet.issue(first)
        async with Load(gateways, [bearer(token) for token in tokens], "simulated") as under:

            async def roll_out(*names: str) -> None:
                for gateway in gateways:
                    fleet.reload(gateway, *names)
                    await under.more()
                    fresh = await fleet.issue(gateway)
                    assert [await served(each, fresh) for each in gateways] == [True, True]

            await under.during(roll_out("OLD", "NEW"))
            await under.during(roll_out("NEW", "OLD"))
            peppers = fleet.administration(first)
            # Two are left: the one that nobody used, and the first that was issued in the first round; its uses were
            # before the newest pepper came to the front.
            old = fleet.fingerprint("OLD")

            async def left() -> set[str]:
                return {each.last_four for each in (await peppers.survey(ignore)).rest.get(old, ())}

            async with asyncio.timeout(10):
                while await left() & {token[-4:].decode() for token in tokens}:  # noqa: ASYNC110 - asked of the store
                    await asyncio.sleep(0.02)
            survey = await peppers.survey(ignore)
            assert unused[-4:].decode() in {each.last_four for each in survey.rest[old]}
            retire = partial(peppers.retire, old, survey, ignore, unnoted_too=False)
            await under.during(insisted(retire))
            await under.during(roll_out("NEW"))
        assert under.failures() == []
        assert [await served(each, unused) for each in gateways] == [False, False]
        restarted = await stack.enter_async_context(fleet.start("NEW"))
        assert [await served(restarted, token) for token in tokens] == [True] * 4


async def test_a_gateway_that_does_not_know_the_newest_pepper_yet_goes_on_and_does_not_know_what_is_issued_under_it(
    state_url,
):
    """Why the new pepper stands at the end of every list before it stands at the front of one."""
    fleet = Fleet(state_url)
    async with fleet.start("NEW", "OLD") as ahead, fleet.start("OLD") as behind:
        before = await fleet.issue(behind)
        async with Load([ahead, behind], [bearer(before)] * 3, "simulated") as under:
            peppers = fleet.administration(ahead)
            (virtual_key,) = await ahead.app.stores.virtual_keys.list(None)
            await until_moved(ahead, virtual_key.id)
            fleet.reload(behind, "OLD")  # it asks the store anew
            await under.more()
        assert under.failures() == []
        assert not await served(behind, await fleet.issue(ahead))
        # What is revoked stops wherever it is known by whichever digest.
        await ahead.app.stores.virtual_keys.revoke(virtual_key.id, 1)
        assert (await peppers.survey(ignore)).rest.get(fleet.fingerprint("OLD"), ()) == ()
        async with fleet.start("OLD") as cold, fleet.start("NEW") as newer:
            assert [await served(each, before) for each in (cold, newer)] == [False, False]


async def until_moved(gateway: Gateway, virtual_key_id: str) -> None:
    async with asyncio.timeout(10):
        while len((await gateway.app.stores.virtual_keys.peppers([virtual_key_id]))[0]) < 2:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.02)
