"""Promise: no secret is found in what the gateway stores, logs, counts or answers; and one that is there is found."""

import base64
import contextlib
import io
import json
import logging
import os
import traceback
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest

from proxy.adapters.redis import RedisDoor
from proxy.administration.desk import open_desk
from proxy.administration.virtual_keys import Wanted
from proxy.app.keyring import keyring_store
from proxy.app.stores import open_stores, peppers_of
from proxy.core.clock import Clock
from proxy.core.origin import origin_of
from proxy.core.secret import Secret
from proxy.identity.virtual_key import mint
from proxy.ledger.exporter import Exporter, ExportPace
from proxy.settings.load import load
from proxy.telemetry.metrics import Metrics
from tests.canaries import Canaries, files_of
from tests.gateway import JSON, BrokenOff, Gateway, priced_to, raw_request, running_gateway
from tests.keyrings import ignore
from tests.redis_contents import redis_contents
from tests.redis_server import emptied
from tests.scripted_upstream import Do, Script, ScriptedUpstream, Step, answer, scripted_upstream, stream
from tests.strict_kms import StrictKms

CHAT = "/v1/chat/completions"
USAGE = answer(b'{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5}}')
TIMEOUTS = "[providers.scripted.timeouts_s]\nconnect = 1\nfirst_byte = 0.2\nidle = 0.2\ntotal = 0.3\n"


@dataclass
class Scene:
    """What was planted, and every place where it must not be."""

    folder: Path
    state_url: str
    canaries: Canaries = field(default_factory=Canaries)
    places: dict[str, bytes] = field(default_factory=dict)
    answers: list[bytes] = field(default_factory=list)
    access_logs: dict[str, io.BytesIO] = field(default_factory=dict)

    async def ask(self, gateway: Gateway, target: str, body: bytes, headers, method: str = "POST") -> int:
        """One request; every byte of its answer is kept."""
        raw = b""
        with contextlib.suppress(BrokenOff, ConnectionError):
            async for chunk in raw_request(gateway, method, target, body, headers):
                raw += chunk
        self.answers.append(raw)
        return int(raw.split(b" ", 2)[1]) if raw else 0

    async def look(self, name: str, gateway: Gateway) -> None:
        """Keep what this gateway has left so far: its store as it stands, its journal, its log, its metrics, itself."""
        await gateway.settled()
        for path, data in files_of(self.folder).items():
            self.places[f"{name}: {path}"] = data
        door = gateway.app.stores.door
        if isinstance(door, RedisDoor):
            self.places[f"{name}: redis"] = await redis_contents(door)
        self.access_logs[f"{name}: access log"] = gateway.log_sink
        self.places[f"{name}: metrics"] = gateway.app.metrics.render()[0]
        current = gateway.app.snapshots.current
        shown = (current, current.settings, gateway.app, vars(gateway.app), current.authenticator, current.providers)
        self.places[f"{name}: repr"] = "\n".join(map(repr, shown)).encode()

    def close(self) -> None:
        """Keep what was written until the gateways ended."""
        for path, data in files_of(self.folder).items():
            self.places[f"in the end: {path}"] = data
        for name, sink in self.access_logs.items():
            self.places[name] = sink.getvalue()
            assert self.places[name]
        self.places["answers"] = b"\n".join(self.answers)

    def config(self, text: str) -> str:
        """With the one sink that the gateways of a store share."""
        return f'{text}\n[ledger]\nsink = "folder:{self.folder / "ledger"}"\nexport_every_s = 1\n'


@pytest.fixture(params=["sqlite", "redis"])
async def scene(request, tmp_path) -> Scene:
    if request.param == "sqlite":
        return Scene(tmp_path, f"sqlite:{tmp_path / 'shared.db'}")
    url: str = request.getfixturevalue("redis_url")
    await emptied(url)
    return Scene(tmp_path, url)


def chat(model: str = "priced", **more: object) -> bytes:
    return json.dumps(
        {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 10} | more
    ).encode()


def bearer(token: str) -> list[tuple[bytes, bytes]]:
    return [*JSON, (b"authorization", b"Bearer " + token.encode())]


async def misplaced(scene: Scene, gateway: Gateway, secret: str, whose: list[tuple[bytes, bytes]]) -> None:
    """A secret wherever a confused program might put it, and requests that are refused for it or in spite of it."""
    text = secret.encode()
    for name in (b"x-goog-api-key", b"cookie", b"user-agent", b"x-secret", b"referer", b"proxy-authorization"):
        await scene.ask(gateway, CHAT, chat(), [*whose, (name, text)])
    for target in (f"{CHAT}?key={secret}", f"{CHAT}?api_key={secret}&x=1", f"/v1/nothing?token={secret}"):
        await scene.ask(gateway, target, chat(), whose)
    for body in (
        chat(metadata={"key": secret}),
        chat(api_key=secret),
        chat(max_tokens=secret),
        b'{"api_key":"' + text + b'"',
        b"\xff" + text,
        text,
    ):
        await scene.ask(gateway, CHAT, body, whose)
    for value in (b"Basic " + base64.b64encode(text), b"Bearer Bearer " + text, text, b"Bearer " + text + b" x"):
        await scene.ask(gateway, CHAT, chat(), [*JSON, (b"authorization", value)])
    await scene.ask(gateway, CHAT, chat(), [*JSON, (b"x-api-key", text), (b"api-key", b"another-one-of-them")])
    await scene.ask(gateway, CHAT, chat(), [*whose, (b"content-type", text)])
    await scene.ask(gateway, CHAT, chat(), [*whose, (b"origin", b"https://" + text + b".example")])
    await scene.ask(gateway, CHAT, chat(), [*whose, (b"transfer-encoding", text)])


SCRIPTS: list[list[Step]] = [
    USAGE,
    answer(b'{"error":{"message":"no such model"}}', status=b"404 Not Found"),
    answer(b"<html>", status=b"500 Internal Server Error"),
    answer(b"{not json"),
    [b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"],
    [b"nonsense\r\n\r\n"],
    [Do.RESET],
    [Do.CLOSE],
    [Do.HANG],
    stream(b"data: {}\n\n", Do.CLOSE),
    stream(b'data: {"error":{"message":"overloaded"}}\n\n'),
]


def always(steps: list[Step]) -> Script:
    return lambda _: steps


async def faults(scene: Scene, gateway: Gateway, upstream: ScriptedUpstream, whose, shows: bytes | None) -> None:
    """Everything that a provider can do wrong; `shows`: the key that it repeats in its refusal, where that is not the
    caller's own."""
    scripts: list[list[Step]] = list(SCRIPTS)
    if shows is not None:
        words = json.dumps({"error": {"message": f"Incorrect API key provided: {shows.decode()}"}}).encode()
        scripts += [answer(words, status=b"401 Unauthorized"), answer(words, status=b"403 Forbidden")]
    for script in scripts:
        upstream.script = always(script)
        await scene.ask(gateway, CHAT, chat(), whose)
    upstream.script = lambda _: USAGE


async def stored_keys(scene: Scene, upstream: ScriptedUpstream, kms: StrictKms) -> None:
    """Trusted headers; keys of the gateway, a tenant and a user; every rotation; a KMS that is away; an envelope that
    was changed."""
    canaries = scene.canaries
    gateways = canaries.provider_key("the gateway's")
    keks = {name: base64.b64encode(os.urandom(32)).decode() for name in ("OLD", "NEW")}
    for name, kek in keks.items():
        canaries.know(f"kek {name}", kek)
        canaries.know(f"kek {name}, raw", base64.b64decode(kek).hex())
    ring = f'[keyring]\nkek = ["aws-kms:{kms.add_key()}", "env:OLD", "env:NEW"]\nkms_endpoint_url = "{kms.url}"\n'
    text = priced_to(upstream.base_url).replace("sk-gateways", gateways) + TIMEOUTS + ring
    text += "[plans.default.tenant]\nrequests_per_minute = 100_000\n"
    text += '[plans.own]\ngateway_keys = false\n[tenants.none]\nplan = "own"\n'
    text += '[admin]\ntokens = [{ name = "ci", token = "env:ADMIN", roles = ["read", "operate", "keys"] }]\n'
    environ = {**keks, "ADMIN": canaries.know("admin token", "a" * 8 + os.urandom(24).hex())}
    async with running_gateway(
        scene.config(text), environ=environ, folder=scene.folder / "one", state_url=scene.state_url
    ) as gateway:
        keyring = gateway.app.keyring
        assert keyring is not None
        origin = origin_of(upstream.base_url)

        def of(tenant: str, user: str | None = None) -> list[tuple[bytes, bytes]]:
            named = [*JSON, (b"x-tollway-tenant", tenant.encode())]
            return [*named, (b"x-tollway-user", user.encode())] if user else named

        for tenant, user in (("acme", None), ("acme", "ada"), ("globex", None), ("initech", None)):
            name = f"{tenant}'s, {user}"
            first, second = (canaries.provider_key(f"{name} {turn}") for turn in (1, 2))
            await keyring.put(tenant, "scripted", user, origin, Secret(first), 1)
            assert await scene.ask(gateway, CHAT, chat(), of(tenant, user)) == 200
            await keyring.rotate(tenant, "scripted", user, Secret(second), 2)
            assert await scene.ask(gateway, CHAT, chat(), of(tenant, user)) == 200
            if tenant == "acme":
                await faults(scene, gateway, upstream, of(tenant, user), second.encode())
        await faults(scene, gateway, upstream, of("nobody"), gateways.encode())
        assert await scene.ask(gateway, CHAT, chat(), of("none")) == 400
        await keyring.rotate_dek("acme", 3, ignore)
        await keyring.rotate_kek(ignore)
        for bad in ("sk", "with a space in it", "ü" * 20):
            with contextlib.suppress(Exception):
                await keyring.put("acme", "scripted", None, origin, Secret(bad), 4)
        await misplaced(scene, gateway, canaries.provider_key("misplaced one"), of("acme"))
        await spoil(gateway, "globex")
        assert await scene.ask(gateway, CHAT, chat(), of("globex")) == 500
        kms.stop()
        keyring.drop("initech")
        assert await scene.ask(gateway, CHAT, chat(), of("initech")) == 503
        kms.start()
        admin = replace_port(gateway)
        for token in (environ["ADMIN"], environ["ADMIN"] + "x"):
            await scene.ask(admin, "/admin/v1/virtual-keys?tenant=acme", b"", bearer(token), "GET")
        await scene.ask(admin, f"/admin/v1/tenants?token={environ['ADMIN']}", b"", JSON, "GET")
        await keyring.shred("acme", 9)
        assert await scene.ask(gateway, CHAT, chat(), of("acme")) == 410
        await scene.look("stored keys", gateway)
        settings = gateway.app.snapshots.current.settings
    async with open_stores(settings) as stores:  # the gateway may have ended before it exported
        assert stores.sink is not None
        pace = ExportPace(every_s=1, seal_rows_max=1_000)
        await Exporter(stores.ledger, stores.sink, Metrics(), Clock(), "test", pace).run_once()


async def spoil(gateway: Gateway, tenant: str) -> None:
    """Change a stored envelope's last byte."""
    store = keyring_store(gateway.app.stores.door)
    record = (await store.find(tenant, "scripted", None)).shared
    assert record is not None
    changed = record.envelope[:-1] + bytes([record.envelope[-1] ^ 1])
    assert await store.reseal(replace(record, envelope=changed), record.envelope)
    assert gateway.app.keyring is not None
    gateway.app.keyring.drop(tenant)


def replace_port(gateway: Gateway) -> Gateway:
    """The same gateway's admin port."""
    return replace(gateway, port=gateway.admin_port)


async def virtual_keys(scene: Scene, upstream: ScriptedUpstream) -> None:
    """Virtual keys under peppers that are rotated; unknown, revoked, malformed ones; the gateway's own key pays."""
    canaries = scene.canaries
    gateways = canaries.provider_key("the second gateway's")
    peppers = {name: base64.b64encode(os.urandom(32)).decode() for name in ("OLD", "NEW")}
    for name, pepper in peppers.items():
        canaries.know(f"pepper {name}", pepper)
        canaries.know(f"pepper {name}, raw", base64.b64decode(pepper).hex())

    def text(listed: str) -> str:
        auth = f'[auth]\nmode = "virtual-keys"\npeppers = {listed}'
        return scene.config(
            priced_to(upstream.base_url)
            .replace("sk-gateways", gateways)
            .replace('[auth]\nmode = "trusted-headers"', auth)
            + TIMEOUTS
        )

    async with running_gateway(
        text('["env:OLD"]'), environ=peppers, folder=scene.folder / "two", state_url=scene.state_url
    ) as gateway:
        settings, stores = gateway.app.snapshots.current.settings, gateway.app.stores
        desk = open_desk(settings, stores, lambda: peppers_of(settings)[0], Clock(), "test")
        tokens = []
        for number in range(3):
            issued = await desk.virtual_keys.issue(Wanted("umbrella", user="ada"))  # acme is used up
            tokens.append(canaries.know(f"virtual key {number}", issued.token.reveal()))
        await desk.virtual_keys.revoke(issued.virtual_key.id)
        for listed in ('["env:OLD"]', '["env:OLD", "env:NEW"]', '["env:NEW", "env:OLD"]'):
            again = load(text(listed), path="t.toml", environ=peppers, read_file=Path.read_text)
            gateway.app.reload(again)
            statuses = [await scene.ask(gateway, CHAT, chat(), bearer(token)) for token in tokens]
            assert statuses == [200, 200, 401]
        unknown = canaries.know("an unknown virtual key", mint(os.urandom(32)).reveal())
        for token in (unknown, unknown[:-1] + "!", canaries.provider_key("in a virtual key's place")):
            assert await scene.ask(gateway, CHAT, chat(), bearer(token)) == 401
        await faults(scene, gateway, upstream, bearer(tokens[0]), gateways.encode())
        await misplaced(scene, gateway, tokens[1], bearer(tokens[0]))
        await scene.look("virtual keys", gateway)


async def passthrough(scene: Scene, upstream: ScriptedUpstream) -> None:
    """The caller's own key, which goes to its provider and nowhere else; a fault of ours in the midst of a call."""
    own = scene.canaries.provider_key("the caller's own")
    text = f"""
[auth]
mode = "passthrough"
default_provider = "scripted"
[providers.scripted]
base_url = "{upstream.base_url}"
"""
    folder = scene.folder / "three"
    async with running_gateway(scene.config(text + TIMEOUTS), folder=folder, state_url=scene.state_url) as gateway:
        assert await scene.ask(gateway, CHAT, chat(), bearer(own)) == 200
        await faults(scene, gateway, upstream, bearer(own), None)
        await misplaced(scene, gateway, own, bearer(own))
        await scene.look("passthrough", gateway)

    class Broken(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            raise RuntimeError(f"a fault of ours, at {request!r}")

    async with running_gateway(
        scene.config(text), transports={"scripted": Broken()}, folder=scene.folder / "four", state_url=scene.state_url
    ) as gateway:
        assert await scene.ask(gateway, CHAT, chat(), bearer(own)) >= 500
        await scene.look("a fault of ours", gateway)


async def test_no_secret_is_found_anywhere(scene, caplog, capfd, monkeypatch):
    for name, value in (("AWS_ACCESS_KEY_ID", "serving"), ("AWS_SECRET_ACCESS_KEY", "x")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.INFO, "botocore")  # megabytes of its own machinery
    with StrictKms() as kms:
        async with scripted_upstream(USAGE) as upstream:
            await stored_keys(scene, upstream, kms)
            await virtual_keys(scene, upstream)
            await passthrough(scene, upstream)
            assert scene.canaries.found_in(repr(upstream.received).encode())  # the provider alone was shown them
    scene.close()
    scene.places["log records"] = "\n".join(told(record) for record in caplog.records).encode()
    output, errors = capfd.readouterr()
    scene.places["standard output and error"] = (output + errors).encode()
    assert any("ledger/acme/" in place for place in scene.places)
    assert any("journal" in place for place in scene.places)
    assert scene.canaries.found(scene.places) == {}


def told(record: logging.LogRecord) -> str:
    """A record as it could be shown: its words, what they were made of, its exception with all that led there."""
    error = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
    return f"{record.getMessage()} {record.args!r} {error}"


async def test_a_planted_secret_is_found_in_each_place(scene, caplog, capfd):
    canary = scene.canaries.provider_key("planted")
    async with scripted_upstream(answer(canary.encode())) as upstream:
        text = scene.config(priced_to(upstream.base_url))
        with pytest.raises(AssertionError, match=r"the access log.*the metrics"):
            async with running_gateway(text, folder=scene.folder, state_url=scene.state_url) as gateway:
                of_acme = [*JSON, (b"x-tollway-tenant", b"acme"), (b"x-tollway-user", canary.encode())]
                await scene.ask(gateway, CHAT, chat(), of_acme)  # in the answer, and in the row
                await scene.ask(gateway, CHAT, chat(model=canary), of_acme)  # in the access log
                gateway.app.metrics.admin_answered(canary, 200)
                logging.getLogger("tollway").error("%s", canary)
                print(canary)
                gateway.app.planted = canary  # type: ignore[attr-defined]
                (scene.folder / "ledger" / "acme").mkdir(parents=True)
                for place in ("journal/planted", "ledger/acme/planted"):
                    (scene.folder / place).write_text(f"x{canary}y")
                await scene.look("here", gateway)
    scene.close()
    scene.places["log records"] = "\n".join(told(record) for record in caplog.records).encode()
    scene.places["standard output"] = capfd.readouterr().out.encode()
    stored = "redis" if scene.state_url.startswith("redis") else "shared.db-wal"
    found = scene.canaries.found(scene.places)
    wanted = ("access log", "metrics", "repr", "journal/planted", stored)
    assert {f"here: {place}" for place in wanted} <= found.keys()
    assert {"answers", "log records", "standard output", "in the end: journal/planted"} <= found.keys()
    assert "in the end: ledger/acme/planted" in found


@pytest.mark.parametrize(
    "hidden",
    [
        lambda secret: secret,
        lambda secret: b"\x00" + secret + b"\xff",
        lambda secret: secret[:11],
        lambda secret: secret[-9:],
        lambda secret: secret[10:20],
        lambda secret: secret.hex().encode(),
        lambda secret: base64.b64encode(secret),
        lambda secret: base64.b64encode(b"Bearer " + secret),
        lambda secret: base64.b64encode(b"user:" + secret + b"\n"),
        lambda secret: base64.urlsafe_b64encode(b"ab" + secret),
        lambda secret: json.dumps({"a": secret.decode()}).encode(),
    ],
)
def test_a_secret_is_found_however_it_was_written(hidden):
    canaries = Canaries()
    secret = canaries.provider_key("it").encode()
    assert canaries.found_in(hidden(secret)) == {"it"}
    assert canaries.found_in(secret[-4:] + b" " + secret[:7]) == set()  # what is shown of one
    assert canaries.found_in(Canaries().provider_key("another").encode()) == set()
