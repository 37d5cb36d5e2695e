"""Promise: a deployment that is drained and a model that is switched, at the admin API or from the command line, get no
new call within a second, in every process; what has begun goes on; each change has its row."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeAlias

import httpx
import pytest

from proxy.app.switches import EVERY_S
from tests.gateway import JSON, Gateway, plain_request, raw_request, running_gateway
from tests.scripted_upstream import ScriptedUpstream, answer, scripted_upstream, stream

CHAT = "/v1/chat/completions"
TOKEN = "t" * 40
EVENT = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


def configuration(base_url: str, more: str = "") -> str:
    models = "".join(
        f"""
[models.{alias}]
deployments = [{{ provider = "one", model = "{alias}" }}, {{ provider = "two", model = "{alias}" }}]
"""
        for alias in ("m", "other")
    )
    return f"""
[auth]
mode = "trusted-headers"
[providers.one]
base_url = "{base_url}"
[providers.two]
base_url = "{base_url}"
[admin]
tokens = [
  {{ name = "ci", token = "env:TOKEN", roles = ["read", "operate"] }},
]
{models}
[models.auto]
default = "m"
{more}
"""


Served: TypeAlias = tuple[list[Gateway], ScriptedUpstream]


@asynccontextmanager
async def served(
    state_url: str | None = None, processes: int = 1
) -> AsyncIterator[tuple[list[Gateway], ScriptedUpstream]]:
    async with scripted_upstream(answer(b'{"id":"x"}')) as upstream:
        text, environ = configuration(upstream.base_url), {"TOKEN": TOKEN}
        async with running_gateway(text, environ=environ, state_url=state_url) as first:
            if processes == 1:
                yield [first], upstream
                return
            async with running_gateway(text, environ=environ, state_url=state_url) as second:
                yield [first, second], upstream


async def served_by(gateway: Gateway, model: str = "m") -> tuple[int, str, str]:
    body = json.dumps({"model": model, "messages": []}).encode()
    status, head, _ = await plain_request(gateway, "POST", CHAT, body, [*JSON, (b"x-tollway-tenant", b"acme")])
    return status, head.get(b"x-tollway-model", b"").decode(), head.get(b"x-tollway-rule", b"").decode()


async def administer(
    gateway: Gateway, method: str, path: str, document: dict[str, Any] | None = None
) -> httpx.Response:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.admin_port}/admin/v1") as client:
        return await client.request(method, path, json=document, headers={"authorization": f"Bearer {TOKEN}"})


async def within_a_second(gateway: Gateway, model: str, expected: str) -> None:
    for _ in range(int(1.0 / 0.05)):
        if (await served_by(gateway, model))[1] == expected:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{model} is not served by {expected} after a second: {await served_by(gateway, model)}")


async def test_a_drained_deployment_gets_no_new_call_and_what_has_begun_goes_on() -> None:
    go = asyncio.Event()
    async with served() as ((gateway,), upstream):

        def held(_request):
            first, *rest = stream(EVENT, DONE)
            yield first
            yield rest[0]
            while not go.is_set():
                yield 0.01
            yield from rest[1:]

        upstream.script = held
        body = json.dumps({"model": "m", "messages": [], "stream": True}).encode()
        begun = raw_request(gateway, "POST", CHAT, body, [*JSON, (b"x-tollway-tenant", b"acme")])
        received = await anext(begun)
        upstream.script = lambda _request: answer(b'{"id":"x"}')
        done = await administer(gateway, "PUT", "/deployments", {"deployment": "one/m", "drained": True})
        assert (done.status_code, done.json()["drained"], done.json()["notes"]) == (200, True, [])
        assert await served_by(gateway) == (200, "two/m", "")  # at once, where it was asked for
        go.set()
        async for chunk in begun:
            received += chunk
        assert EVENT in received
        assert received.endswith(b"0\r\n\r\n")
        done = await administer(gateway, "PUT", "/deployments", {"deployment": "one/m", "drained": False})
        assert (done.json()["drained"], done.json()["changed_by"]) == (False, None)
        assert (await served_by(gateway))[1] == "one/m"
        audits = [row for row in await gateway.rows() if row["kind"] == "audit"]
        assert [(row["action"], row["actor"], row["details"]) for row in audits] == [
            ("deployment.drain", "ci", {"deployment": "one/m"}),
            ("deployment.restore", "ci", {"deployment": "one/m"}),
        ]


async def test_the_last_deployment_can_be_drained_and_that_is_said() -> None:
    async with served() as ((gateway,), _):
        for label in ("one/m", "two/m"):
            done = await administer(gateway, "PUT", "/deployments", {"deployment": label, "drained": True})
        assert "every call of that model is refused" in done.json()["notes"][0]
        assert (await served_by(gateway))[0] == 503
        assert (await served_by(gateway, "other"))[0] == 200


@pytest.mark.parametrize("how", ["by command", "in the file"])
@pytest.mark.parametrize(
    ("tier", "consent", "asked", "available"),
    [
        ("equivalent", "", 0, b"equivalent"),
        ("lower", "", 0, b"lower"),
        ("lower", "equivalent", 0, b"lower"),
        ("equivalent", "equivalent", 1, None),
    ],
)
async def test_where_the_first_choice_is_drained_the_consent_that_would_have_helped_is_named(
    how: str, tier: str, consent: str, asked: int, available: bytes | None
) -> None:
    async with scripted_upstream(answer(b'{"id":"x"}')) as upstream:
        drained = "drained = true" if how == "in the file" else ""
        tenant = f'[tenants.acme]\nfallback = "{consent or "none"}"\n'
        text = f"""{tenant}
[[models.tiered.deployments]]
provider = "one"
model = "tiered"
{drained}
[[models.tiered.deployments]]
provider = "two"
model = "tiered"
tier = "{tier}"
"""
        async with running_gateway(configuration(upstream.base_url, text), environ={"TOKEN": TOKEN}) as gateway:
            if how == "by command":
                await administer(gateway, "PUT", "/deployments", {"deployment": "one/tiered", "drained": True})
            body = json.dumps({"model": "tiered", "messages": []}).encode()
            headers = [*JSON, (b"x-tollway-tenant", b"acme")]
            status, head, answered = await plain_request(gateway, "POST", CHAT, body, headers)
            assert head.get(b"x-tollway-fallback-available") == available
            assert len(upstream.received) == asked
            if not asked:
                assert (status, json.loads(answered)["error"]["code"]) == (503, "no_deployment_available")


async def test_a_switched_model_is_served_by_another_through_rules_too() -> None:
    async with served() as ((gateway,), _):
        done = await administer(gateway, "PUT", "/models", {"model": "m", "switched_to": "other"})
        assert (done.status_code, done.json()["switched_to"], done.json()["changed_by"]) == (200, "other", "ci")
        assert await served_by(gateway) == (200, "one/other", "m.switched")
        assert await served_by(gateway, "auto") == (200, "one/other", "auto.default>m.switched")
        await administer(gateway, "PUT", "/models", {"model": "m", "switched_to": None})
        assert await served_by(gateway) == (200, "one/m", "")


async def test_other_processes_see_it_within_a_second_and_a_restart_remembers(redis_url: str) -> None:
    async with served(redis_url, processes=2) as ((first, second), _):
        await administer(first, "PUT", "/deployments", {"deployment": "one/m", "drained": True})
        await administer(first, "PUT", "/models", {"model": "other", "switched_to": "m"})
        await within_a_second(second, "m", "two/m")
        await within_a_second(second, "other", "two/m")
    async with served(redis_url) as ((again,), _):
        assert (await served_by(again))[1] == "two/m"
        await administer(again, "PUT", "/deployments", {"deployment": "one/m", "drained": False})
        await administer(again, "PUT", "/models", {"model": "other", "switched_to": None})


async def test_a_reload_takes_nothing_back() -> None:
    async with served() as ((gateway,), _):
        await administer(gateway, "PUT", "/deployments", {"deployment": "one/m", "drained": True})
        gateway.app.reload(gateway.app.snapshots.current.settings)
        await asyncio.sleep(EVERY_S + 0.1)
        assert (await served_by(gateway))[1] == "two/m"


@pytest.mark.parametrize(
    ("path", "document", "code", "said"),
    [
        ("/deployments", {"deployment": "one/n", "drained": True}, "invalid_parameter", 'Did you mean "one/m"?'),
        ("/deployments", {"deployment": "one/m"}, "missing_required_parameter", "drained"),
        ("/deployments", {"deployment": "one/m", "drained": "yes"}, "invalid_parameter", "true or false"),
        ("/models", {"model": "ohter", "switched_to": "m"}, "invalid_parameter", 'Did you mean "other"?'),
        ("/models", {"model": "m", "switched_to": "nobody"}, "invalid_parameter", "GET /admin/v1/models"),
        ("/models", {"model": "m", "switched_to": "m"}, "invalid_parameter", "itself"),
        ("/models", {"model": "m", "switched_to": "auto"}, "invalid_parameter", "leads back to m"),
        ("/models", {"model": "m"}, "missing_required_parameter", "switched_to"),
    ],
)
async def test_what_cannot_be_is_refused_and_changes_nothing(path, document, code, said) -> None:
    async with served() as ((gateway,), _):
        refused = await administer(gateway, "PUT", path, document)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, code)
        assert said in refused.json()["error"]["message"]
        assert [row for row in await gateway.rows() if row["kind"] == "audit"] == []


async def test_a_circle_of_two_switches_is_refused() -> None:
    async with served() as ((gateway,), _):
        assert (await administer(gateway, "PUT", "/models", {"model": "m", "switched_to": "other"})).status_code == 200
        refused = await administer(gateway, "PUT", "/models", {"model": "other", "switched_to": "m"})
        assert "leads back" in refused.json()["error"]["message"]
        assert (await administer(gateway, "PUT", "/models", {"model": "auto", "switched_to": "m"})).status_code == 200


async def test_what_has_left_the_file_is_listed_until_it_is_taken_back() -> None:
    async with served() as ((gateway,), _):
        await administer(gateway, "PUT", "/deployments", {"deployment": "one/other", "drained": True})
        await administer(gateway, "PUT", "/models", {"model": "m", "switched_to": "other"})
        settings = gateway.app.snapshots.current.settings
        models = {alias: model for alias, model in settings.models.items() if alias != "other"}
        gateway.app.reload(replace(settings, models=models))
        listed = {each["id"]: each for each in (await administer(gateway, "GET", "/deployments")).json()["data"]}
        assert (listed["one/other"]["models"], listed["one/other"]["drained"]) == ([], True)
        done = await administer(gateway, "PUT", "/models", {"model": "auto", "switched_to": "m"})
        assert done.status_code == 200  # m leads to what is no more: no circle
        done = await administer(gateway, "PUT", "/deployments", {"deployment": "one/other", "drained": False})
        assert (done.status_code, done.json()["drained"]) == (200, False)
        gateway.app.reload(settings)
        assert (await served_by(gateway, "other"))[1] == "one/other"


async def test_the_listings_say_what_serves_and_how_it_does() -> None:
    async with served() as ((gateway,), _):
        assert (await served_by(gateway))[0] == 200
        await administer(gateway, "PUT", "/deployments", {"deployment": "two/m", "drained": True})
        listed = {each["id"]: each for each in (await administer(gateway, "GET", "/deployments")).json()["data"]}
        assert list(listed) == ["one/m", "one/other", "two/m", "two/other"]
        assert (listed["one/m"]["health"], listed["one/m"]["breaker"], listed["one/m"]["in_flight"]) == (
            1.0,
            "closed",
            0,
        )
        assert (listed["two/m"]["drained"], listed["two/m"]["changed_by"], listed["two/m"]["health"]) == (
            True,
            "ci",
            None,
        )
        models = (await administer(gateway, "GET", "/models")).json()["data"]
        assert [(each["id"], each["switched_to"]) for each in models] == [("m", None), ("other", None), ("auto", None)]
