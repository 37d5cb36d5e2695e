"""Promise: no spelling, framing or size of a request makes the gateway decide on one thing and a
provider do another, and none costs the other callers their answers, their rows or their time."""

import asyncio
import gzip
import time

import pytest

from proxy.app import peppers_of
from proxy.identity.virtual_key import digest, issue, mint
from tests.gateway import JSON, Gateway, error_of, passthrough_to, plain_request, running_gateway
from tests.scripted_upstream import answer, scripted_upstream

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
EDITS = "/v1/images/edits"
EVIL = [(b"x-tollway-tenant", b"evil")]


def gateway_pays(base_url: str) -> str:
    return f"""
[auth]
mode = "trusted-headers"
default_provider = "scripted"
[providers.scripted]
base_url = "{base_url}"
provider_key = "sk-gateway-own-key"
[models.house]
tenants = ["acme"]
deployments = [{{ provider = "scripted", model = "house-2026" }}]
"""


def content_type(*values: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"content-type", value) for value in values]


# ── what the provider keeps for all ──────────────────────────────────────────────────────

SPELLINGS = [
    "/v1/files;x=1",
    "/v1/files%3bx",
    "/v1/files.",
    "/v1/files.json",
    "/v1/files:upload",
    "/v1/file%C5%BF",  # a long s
    "/v1/%EF%BD%86iles",  # a full-width f
    "/v1/batches;a",
    "/v1/vector-stores",
    "/v1/fineTuning",
    "/v1/fine-tuning/jobs",
    "/v1/;x/files",
    "/v1/chat;x/completions/chatcmpl-1",
    "/v1/cachedContents",
    "/v1/api-keys",
]


@pytest.mark.parametrize("target", SPELLINGS)
async def test_no_spelling_of_a_path_reaches_what_the_provider_keeps(target):
    async with scripted_upstream(answer(b"{}")) as upstream:
        async with running_gateway(gateway_pays(upstream.base_url)) as gateway:
            status, _, body = await plain_request(gateway, "POST", target, b"{}", [*JSON, *EVIL])
            assert (status, error_of(body)["code"]) == (403, "stateful_path_not_isolated")
            assert upstream.received == []


ADMIN_SPELLINGS = [
    "/v1/organization;a=b/users",
    "/v1/organization./users",
    "/v1/organization.json",
    "/v1/;x/organization/users",
    "/v1/%EF%BD%8Frganization/users",
]


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
@pytest.mark.parametrize("target", ADMIN_SPELLINGS)
async def test_no_spelling_of_a_path_administers_an_account(method, target):
    async with scripted_upstream(answer(b"{}")) as upstream:
        async with running_gateway(passthrough_to(upstream.base_url)) as gateway:
            body = b"{}" if method == "POST" else b""
            assert (await plain_request(gateway, method, target, body))[0] == 404
            assert upstream.received == []


FILE = b'{"model":"m","images":[{"file_id":"file-abc"}]}'
NAMING = {
    "said to be text": (EDITS, FILE, content_type(b"text/plain")),
    "said to be nothing": (EDITS, FILE, []),
    "in another JSON's name": (EDITS, FILE, content_type(b"text/json")),
    "in a list of types": (EDITS, FILE, content_type(b"text/plain, application/json")),
    "in a list of types behind a form": (
        "/v1/future/things",
        FILE,
        content_type(b"multipart/form-data, application/json"),
    ),
    "a nested name in capitals": (CHAT, FILE.replace(b"file_id", b"FILE_ID"), JSON),
    "a prompt's id in capitals": (RESPONSES, b'{"prompt":{"ID":"pmpt_1"}}', JSON),
    "a thought of somebody's, by its id": (
        RESPONSES,
        b'{"model":"m","input":[{"type":"reasoning","id":"rs_other","summary":[]},{"role":"user","content":"Repeat."}]}',
        JSON,
    ),
    "a search of somebody's, by its id": (
        RESPONSES,
        b'{"model":"m","input":[{"type":"web_search_call","id":"ws_other","status":"completed"}]}',
        JSON,
    ),
    "a reference with a capital": (
        RESPONSES,
        b'{"model":"m","input":[{"Type":"item_reference","Id":"rs_other"}]}',
        JSON,
    ),
    "a store with a long s": (
        RESPONSES,
        '{"model":"m","input":"x","tools":[{"type":"file_search","vector_\u017ftore_ids":["vs_other"]}]}'.encode(),
        JSON,
    ),
    "a file's address": (
        "/v1/models/g:generateContent",
        b'{"contents":[{"parts":[{"fileData":{"fileUri":"https://host.test/v1beta/files/abc"}}]}]}',
        JSON,
    ),
}


@pytest.mark.parametrize(("target", "body", "headers"), NAMING.values(), ids=NAMING)
async def test_no_disguise_of_a_body_names_what_the_provider_keeps(target, body, headers):
    async with scripted_upstream(answer(b"{}")) as upstream:
        async with running_gateway(gateway_pays(upstream.base_url)) as gateway:
            status, _, got = await plain_request(gateway, "POST", target, body, [*headers, *EVIL])
            assert (status, error_of(got)["code"]) == (403, "stateful_path_not_isolated")
            assert upstream.received == []


async def test_what_was_answered_is_handed_back_with_its_content_and_not_by_its_id():
    thought = b'{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":%b}'
    body = b'{"model":"m","input":[' + thought + b',{"role":"user","content":"Go on."}],"store":false}'
    async with scripted_upstream(answer(b"{}")) as upstream:
        async with running_gateway(gateway_pays(upstream.base_url)) as gateway:
            whole = body % b'"gAAA"'
            assert (await plain_request(gateway, "POST", RESPONSES, whole, [*JSON, *EVIL]))[0] == 200
            status, _, got = await plain_request(gateway, "POST", RESPONSES, body % b"null", [*JSON, *EVIL])
            error = error_of(got)
            assert (status, error["code"], error["param"]) == (403, "stateful_path_not_isolated", "input[0].id")
            assert 'include: ["reasoning.encrypted_content"]' in error["message"]
            assert "leave its id out" in error["message"]
            assert [request.body for request in upstream.received] == [whole]


async def test_a_form_and_a_public_film_name_nothing():
    form = b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nm\r\n--b--\r\n'
    film = b'{"contents":[{"parts":[{"fileData":{"fileUri":"https://www.youtube.com/watch?v=abc"}}]}]}'
    async with scripted_upstream(answer(b"{}")) as upstream:
        async with running_gateway(gateway_pays(upstream.base_url)) as gateway:
            headers = [*content_type(b"multipart/form-data; boundary=b"), *EVIL]
            assert (await plain_request(gateway, "POST", EDITS, form, headers))[0] == 200
            target = "/v1/models/g:generateContent"
            assert (await plain_request(gateway, "POST", target, film, [*JSON, *EVIL]))[0] == 200
            assert [request.body for request in upstream.received] == [form, film]


# ── two readers of one body ──────────────────────────────────────────────────────────────

UTF_7 = b'{"model":"m","x":"+ACI-,+ACI-model+ACI-:+ACI-house"}'
TWO_READINGS = {
    "two types": (CHAT, b'{"model":"m"}', content_type(b"text/plain", b"application/json"), 400, "malformed_request"),
    "two codings": (
        CHAT,
        b'{"model":"m"}',
        [*JSON, (b"content-encoding", b"identity"), (b"content-encoding", b"deflate")],
        400,
        "malformed_request",
    ),
    "UTF-7": (CHAT, UTF_7, content_type(b"application/json; charset=utf-7"), 415, "unsupported_content_encoding"),
    "UTF-7, quoted": (CHAT, UTF_7, content_type(b'application/json;CharSet = "UTF-7"'), 415, None),
    "UTF-7, extended": (CHAT, UTF_7, content_type(b"application/json; charset*=us-ascii''utf-7"), 415, None),
    "UTF-7 behind UTF-8": (CHAT, UTF_7, content_type(b"application/json; charset=utf-8; charset=utf-7"), 415, None),
    "UTF-7, no JSON": (CHAT, UTF_7, content_type(b"text/plain; charset=utf-7"), 415, None),
    "Shift-JIS": (EDITS, UTF_7, content_type(b"application/json; charset=shift_jis"), 415, None),
    "a model in capitals": (CHAT, b'{"model":"m","MODEL":"house"}', JSON, 400, "duplicate_parameter"),
    "a stream with a long s": (CHAT, '{"model":"m","ſtream":true}'.encode(), JSON, 400, "duplicate_parameter"),
    "an earlier response": (RESPONSES, b'{"Previous_Response_ID":"resp_1"}', JSON, 400, "duplicate_parameter"),
}


@pytest.mark.parametrize(("target", "body", "headers", "status", "code"), TWO_READINGS.values(), ids=TWO_READINGS)
async def test_what_two_readers_read_differently_is_sent_to_nobody(target, body, headers, status, code):
    async with scripted_upstream(answer(b"{}")) as upstream:
        async with running_gateway(gateway_pays(upstream.base_url)) as gateway:
            got_status, head, got = await plain_request(gateway, "POST", target, body, [*headers, *EVIL])
            assert got_status == status
            assert code is None or error_of(got)["code"] == code
            assert head[b"x-tollway-run-id"]  # refused in the line: counted and logged
            assert upstream.received == []


@pytest.mark.parametrize(
    "said", [b"application/json; charset=utf-8", b'application/json; charset="UTF-8"', b"application/json;charset=utf8"]
)
async def test_utf_8_by_its_name_is_served(said):
    async with scripted_upstream(answer(b"{}")) as upstream:
        async with running_gateway(gateway_pays(upstream.base_url)) as gateway:
            headers = [*content_type(said), *EVIL]
            assert (await plain_request(gateway, "POST", CHAT, b'{"model":"m"}', headers))[0] == 200
            assert upstream.received[0].header(b"content-type") == said


# ── models ───────────────────────────────────────────────────────────────────────────────


async def issued(gateway: Gateway, models: frozenset[str]) -> str:
    """A virtual key for these models."""
    token = mint(bytes(range(32)))
    virtual_key = issue(tenant_id="acme", token=token, virtual_key_id="vk_1", now_ms=1, allowed_models=models)
    pepper = peppers_of(gateway.app.snapshots.current.settings)[0]
    await gateway.app.stores.virtual_keys.put(virtual_key, digest(token.reveal(), pepper))
    return token.reveal()


PATHS_WITH_MODELS = [
    "/v1/engines/dear/chat/completions",
    "/v1/deployments/dear/chat/completions",
    "/v1/models/dear:generateContent",
    "/v1/Engines;x/dear/completions",
    "/v1/publishers/google/models/dear:predict",
]


@pytest.mark.parametrize("target", PATHS_WITH_MODELS)
async def test_a_key_for_one_model_reaches_no_other_by_the_path(target):
    async with scripted_upstream(answer(b"{}")) as upstream:
        text = gateway_pays(upstream.base_url).replace("trusted-headers", "virtual-keys")
        async with running_gateway(text) as gateway:
            token = await issued(gateway, frozenset({"cheap"}))
            headers = [*JSON, (b"authorization", b"Bearer " + token.encode())]
            assert (await plain_request(gateway, "POST", CHAT, b'{"model":"cheap"}', headers))[0] == 200
            upstream.received.clear()
            status, _, body = await plain_request(gateway, "POST", target, b'{"model":"cheap"}', headers)
            assert (status, error_of(body)["code"]) == (403, "endpoint_not_allowed")
            assert upstream.received == []


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_another_tenants_model_does_not_exist_for_head_either(method):
    async with scripted_upstream(answer(b"{}")) as upstream:
        async with running_gateway(gateway_pays(upstream.base_url)) as gateway:
            assert (await plain_request(gateway, method, "/v1/models/house", b"", EVIL))[0] == 404
            acme = [(b"x-tollway-tenant", b"acme")]
            assert (await plain_request(gateway, method, "/v1/models/house", b"", acme))[0] == 200
            assert upstream.received == []


NO_MODELS = {
    "longer than any": b"m" * 257,
    "as long as the body may be": b"m" * 30_000_000,
    "a line of its own": b"a\\nb",
    "a terminal's escape": b"a\\u001b[2J",
    "a terminal's escape in one byte": b"a\\u009b2J",
}


@pytest.mark.parametrize("name", NO_MODELS.values(), ids=NO_MODELS)
async def test_a_name_that_no_model_has_is_in_no_header_row_or_line(name):
    """It stood in all three: a few rows of 90 MB could never be written, and all others waited behind them."""
    async with scripted_upstream(answer(b"{}")) as upstream:
        async with running_gateway(passthrough_to(upstream.base_url)) as gateway:
            status, head, body = await plain_request(gateway, "POST", CHAT, b'{"model":"' + name + b'"}')
            assert (status, error_of(body)["param"]) == (400, "model")
            assert b"x-tollway-model" not in head
            (line,) = await gateway.log_lines(1)
            assert line["model"] is None
            assert await gateway.rows() == []
            assert upstream.received == []


# ── what one request may cost the others ─────────────────────────────────────────────────


def filled(head: bytes, unit: bytes) -> bytes:
    """30 MB of one small value after another."""
    return b'{"model":"m",' + head + b'"x":[' + unit * (30_000_000 // len(unit)) + unit.rstrip(b",") + b"]}"


HEAVY = {
    "empty lists": (b"", b"[],"),
    "behind a second model": (b'"a":{"model":1},', b"[],"),
    "behind a file's id": (b'"a":{"file_id":null},', b'{"a":1},'),
    "behind an escape": (b'"\\u0061":1,', b"[],"),
}


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(("head", "unit"), HEAVY.values(), ids=HEAVY)
async def test_a_body_of_ten_million_values_holds_nobody_up(head, unit, compressed):
    """It took up to 17 s of everybody's time, and a gigabyte until its answer had come."""
    body = filled(head, unit)
    headers = [*JSON, *EVIL]
    if compressed:
        body = gzip.compress(body, 1)
        headers.append((b"content-encoding", b"gzip"))
    async with scripted_upstream(answer(b"{}")) as upstream:
        async with running_gateway(gateway_pays(upstream.base_url)) as gateway:
            began_s = time.monotonic()
            status, _, got = await plain_request(gateway, "POST", CHAT, body, headers)
            assert (status, error_of(got)["code"]) == (413, "request_too_large")
            assert time.monotonic() - began_s < 5
            assert upstream.received == []


async def test_a_large_body_of_few_values_passes():
    body = b'{"model":"m","messages":[{"role":"user","content":"' + b"QUJD" * 5_000_000 + b'"}]}'
    async with scripted_upstream(answer(b"{}")) as upstream:
        async with running_gateway(passthrough_to(upstream.base_url)) as gateway:
            assert (await plain_request(gateway, "POST", CHAT, body))[0] == 200
            assert upstream.received[0].body == body


async def test_a_length_of_thousands_of_digits_is_400():
    async with scripted_upstream(answer(b"{}")) as upstream:
        async with running_gateway(passthrough_to(upstream.base_url)) as gateway:
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            head = b"POST " + CHAT.encode() + b" HTTP/1.1\r\nhost: gateway.test\r\ncontent-length: "
            writer.write(head + b"0" * 5_000 + b"2\r\n\r\n{}")
            assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
            writer.close()
            assert upstream.received == []


# ── who asks ─────────────────────────────────────────────────────────────────────────────

KEYLESS = """
[auth]
mode = "passthrough"
allow_keyless = true
[providers.paid]
base_url = "{base_url}"
provider_key = "sk-gateway-own-key"
[models.paid]
deployments = [{{ provider = "paid", model = "m" }}]
"""
PAID = b'{"model":"paid"}'


async def test_no_web_page_spends_the_gateways_key():
    """A form of any page may post text to 127.0.0.1, and needs no leave for that."""
    async with scripted_upstream(answer(b"{}")) as upstream:
        async with running_gateway(KEYLESS.format(base_url=upstream.base_url)) as gateway:
            page = [*content_type(b"text/plain;charset=UTF-8"), (b"origin", b"https://evil.test")]
            status, _, body = await plain_request(gateway, "POST", CHAT, PAID, page)
            assert (status, error_of(body)["code"]) == (403, "tenant_not_allowed")
            assert upstream.received == []
            own_page = [*JSON, (b"origin", b"http://localhost:3000")]
            for headers in (JSON, own_page):
                assert (await plain_request(gateway, "POST", CHAT, PAID, headers))[0] == 200


async def test_a_page_with_a_key_of_its_own_is_served_where_one_is_asked_for():
    async with scripted_upstream(answer(b"{}")) as upstream:
        async with running_gateway(passthrough_to(upstream.base_url)) as gateway:
            page = [*JSON, (b"origin", b"https://app.test")]
            assert (await plain_request(gateway, "POST", CHAT, b'{"model":"m"}', page))[0] == 200
