"""Promise: a form is routed, limited and priced by its fields as JSON is by its members, and its bytes pass unchanged
but for the model's name where that must change."""

import asyncio
import hashlib
import tracemalloc
from typing import Any

import pytest

from tests.behaviour.test_attacks import issued
from tests.forms import Part, form, form_headers
from tests.gateway import Gateway, error_of, plain_request, request_bytes, running_gateway
from tests.openai_sdk import async_sdk
from tests.scripted_upstream import Do, answer, scripted_upstream, stream, until

TRANSCRIPTIONS = "/v1/audio/transcriptions"
TRANSLATIONS = "/v1/audio/translations"
EDITS = "/v1/images/edits"
VARIATIONS = "/v1/images/variations"
SOUND = bytes(range(256)) * 100 + b"\r\n--\r\n--y\r\n"
HEARD = b'{"text":"hi","usage":{"type":"tokens","input_tokens":14,"output_tokens":45,"total_tokens":59}}'
DRAWN = b'{"created":1,"data":[{"b64_json":"aGk="}],"usage":{"input_tokens":50,"output_tokens":60,"total_tokens":110}}'


def configuration(base_url: str, extra: str = "", server: str = "") -> str:
    return f"""
[server]
{server}
[auth]
mode = "trusted-headers"
default_provider = "scripted"
[providers.scripted]
base_url = "{base_url}"
provider_key = "sk-gateways"
[[models.ears.deployments]]
provider = "scripted"
model = "hearing-2026"
price = {{ input_usd_per_mtok = 1, output_usd_per_mtok = 4 }}
context_tokens = 16_000
max_output_tokens = 2_000
[models.house]
tenants = ["globex"]
[[models.house.deployments]]
provider = "scripted"
model = "house-2026"
{extra}
"""


CAPPED = "[plans.default.tenant]\nusd_per_day = 1\n"
HELD_NUSD = 16_000 * 1_000 + 2_000 * 4_000


def sent_form(model: bytes | None = b"ears", *more: Part, sound: bytes = SOUND, first: bool = False) -> bytes:
    """A form; its model stands behind the file unless it is to come first."""
    parts: list[Part] = [(b"file", b"a.wav", sound), *more]
    if model is not None:
        parts.insert(0 if first else len(parts), (b"model", model))
    return form(parts)


async def post(
    gateway: Gateway, path: str, body: bytes, *more: tuple[bytes, bytes], tenant: bytes = b"acme"
) -> tuple[int, dict[bytes, bytes], bytes]:
    return await plain_request(gateway, "POST", path, body, [*form_headers(), (b"x-tollway-tenant", tenant), *more])


async def code(gateway: Gateway, path: str, body: bytes, *more: tuple[bytes, bytes]) -> tuple[int, str, str | None]:
    status, _, got = await post(gateway, path, body, *more)
    error = error_of(got)
    return status, error["code"], error["param"]


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


# ── routing ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", [TRANSCRIPTIONS, TRANSLATIONS, EDITS, VARIATIONS, "/v1/videos", "/v1/future/things"])
async def test_an_alias_is_routed_and_its_value_alone_is_rewritten(path):
    async with scripted_upstream(answer(b"{}")) as upstream:
        text = configuration(upstream.base_url).replace(
            'provider_key = "sk-gateways"', 'provider_key = "sk-gateways"\nallow_shared_state = true'
        )
        async with running_gateway(text) as gateway:
            for first in (True, False):
                body = sent_form(b"ears", (b"prompt", b"ears"), first=first)
                status, headers, _ = await post(gateway, path, body)
                assert (status, headers[b"x-tollway-model"]) == (200, b"scripted/hearing-2026")
                expected = body.replace(b'"model"\r\n\r\nears\r\n', b'"model"\r\n\r\nhearing-2026\r\n')
                assert upstream.received[-1].body == expected
                assert upstream.received[-1].header(b"content-length") == b"%d" % len(expected)
            (row, _) = await gateway.rows("acme")
            assert (row["requested_model"], row["served_model"]) == ("ears", "hearing-2026")


@pytest.mark.parametrize("length", [100, 3_000_000])
@pytest.mark.parametrize("chunked", [False, True])
async def test_where_nothing_must_change_the_bytes_are_the_callers(length, chunked):
    body = sent_form(b"somebody-elses", sound=(SOUND * 120)[:length])
    fields = [*form_headers(), (b"x-tollway-tenant", b"acme")]
    async with scripted_upstream(answer(b"{}")) as upstream:
        async with running_gateway(configuration(upstream.base_url)) as gateway:
            if chunked:
                raw = chunked_bytes(TRANSCRIPTIONS, body, fields)
                assert (await said(gateway, raw)).startswith(b"HTTP/1.1 200 ")
            else:
                assert (await plain_request(gateway, "POST", TRANSCRIPTIONS, body, fields))[0] == 200
            assert upstream.received[0].body_sha256 == sha256(body)
            assert upstream.received[0].header(b"content-type") == form_headers()[0][1]


def chunked_bytes(path: str, body: bytes, fields: list[tuple[bytes, bytes]]) -> bytes:
    """One whole request whose length nobody tells."""
    head = request_bytes("POST", path, b"", fields).replace(b"content-length: 0", b"transfer-encoding: chunked")
    pieces = [body[i : i + 77_777] for i in range(0, len(body), 77_777)]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


async def said(gateway: Gateway, raw: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        writer.write(raw)
        return await asyncio.wait_for(reader.read(), 10.0)
    finally:
        writer.close()


@pytest.mark.parametrize("path", [TRANSCRIPTIONS, EDITS])
async def test_the_official_sdk_reaches_what_its_form_names(path):
    async with scripted_upstream(lambda _: answer(DRAWN if path == EDITS else HEARD)) as upstream:
        async with running_gateway(configuration(upstream.base_url)) as gateway:
            options: dict[str, Any] = {"default_headers": {"x-tollway-tenant": "acme"}}
            async with async_sdk(f"{gateway.url}/v1", **options) as client:
                if path == EDITS:
                    images = [("ü.png", b"A"), ('b "q".png', SOUND)]
                    edited = await client.images.edit(image=images, prompt="é\nb", model="ears", n=2, user="u-1")
                    assert edited.usage is not None
                    assert edited.usage.output_tokens == 60
                else:
                    heard = await client.audio.transcriptions.create(
                        model="ears", file=("ü.mp3", SOUND), timestamp_granularities=["word"], prompt="x"
                    )
                    assert heard.text == "hi"
            assert b'name="model"\r\n\r\nhearing-2026\r\n' in upstream.received[0].body
            (row,) = await gateway.rows("acme")
            assert row["user"] == ("u-1" if path == EDITS else None)
            assert (row["input_tokens"], row["output_tokens"]) == ((50, 60) if path == EDITS else (14, 45))
            assert row["usage_source"] == "exact"


async def test_another_tenants_model_and_an_unknown_one_do_not_exist():
    async with scripted_upstream(answer(b"{}")) as upstream:
        async with running_gateway(configuration(upstream.base_url)) as gateway:
            body = sent_form(b"house")
            assert await code(gateway, TRANSCRIPTIONS, body) == (404, "model_not_found", "model")
            # Nor by the name that the provider itself gives it.
            assert (await code(gateway, TRANSCRIPTIONS, sent_form(b"house-2026")))[1] == "model_not_found"
            assert upstream.received == []
            assert (await post(gateway, TRANSCRIPTIONS, body, tenant=b"globex"))[0] == 200
        text = configuration(upstream.base_url).replace('default_provider = "scripted"', "")
        async with running_gateway(text) as gateway:
            assert (await code(gateway, TRANSCRIPTIONS, sent_form(b"nobodys")))[:2] == (404, "model_not_found")
            assert (await code(gateway, TRANSCRIPTIONS, sent_form(None)))[:2] == (404, "unknown_url")


async def test_a_virtual_key_reaches_its_own_models_alone():
    async with scripted_upstream(answer(b"{}")) as upstream:
        text = configuration(upstream.base_url).replace('"trusted-headers"', '"virtual-keys"')
        async with running_gateway(text) as gateway:
            token = await issued(gateway, frozenset({"ears"}))
            bearer = (b"authorization", b"Bearer " + token.encode())
            assert (await post(gateway, TRANSCRIPTIONS, sent_form(b"ears"), bearer))[0] == 200
            assert (await code(gateway, TRANSCRIPTIONS, sent_form(b"mine"), bearer))[:2] == (404, "model_not_found")
            assert (await code(gateway, TRANSCRIPTIONS, sent_form(None), bearer))[:2] == (403, "endpoint_not_allowed")
            assert len(upstream.received) == 1


# ── limits and caps ──────────────────────────────────────────────────────────────────────


async def test_one_models_limits_hold_whatever_name_the_form_has_for_it():
    limit = "[plans.default.models.ears]\nrequests_per_minute = 1\nburst = 1\n"
    async with scripted_upstream(answer(b"{}")) as upstream:
        async with running_gateway(configuration(upstream.base_url, limit)) as gateway:
            assert (await post(gateway, TRANSCRIPTIONS, sent_form(b"ears")))[0] == 200
            for name in (b"ears", b"hearing-2026"):
                assert (await code(gateway, EDITS, sent_form(name)))[:2] == (429, "rate_limit_exceeded")
            assert (await post(gateway, TRANSCRIPTIONS, sent_form(b"another")))[0] == 200
            assert len(upstream.received) == 2


async def test_the_forms_user_has_its_own_limits():
    limit = "[plans.default.user]\nrequests_per_minute = 1\nburst = 1\n"
    async with scripted_upstream(answer(b"{}")) as upstream:
        async with running_gateway(configuration(upstream.base_url, limit)) as gateway:
            statuses = []
            for user in (b"u-1", b"u-1", b"u-2"):
                statuses.append((await post(gateway, EDITS, sent_form(b"ears", (b"user", user))))[0])
            assert statuses == [200, 429, 200]


async def test_a_transcription_by_tokens_holds_what_the_model_takes_and_is_charged_what_it_reports():
    async with scripted_upstream(answer(HEARD)) as upstream:
        async with running_gateway(configuration(upstream.base_url, CAPPED)) as gateway:
            for path in (TRANSCRIPTIONS, TRANSLATIONS):
                assert (await post(gateway, path, sent_form()))[0] == 200
            await gateway.idle()
            for row in await gateway.rows("acme"):
                assert (row["held_nusd"], row["charged_nusd"]) == (HELD_NUSD, 14 * 1_000 + 45 * 4_000)
        small = CAPPED.replace("= 1\n", "= 0.02\n")  # less than the worst case
        async with running_gateway(configuration(upstream.base_url, small)) as gateway:
            assert (await code(gateway, TRANSCRIPTIONS, sent_form()))[:2] == (429, "insufficient_quota")
        assert len(upstream.received) == 2


async def test_an_edit_holds_as_many_pictures_as_its_form_asks_for():
    async with scripted_upstream(answer(DRAWN)) as upstream:
        async with running_gateway(configuration(upstream.base_url, CAPPED)) as gateway:
            assert (await post(gateway, EDITS, sent_form(b"ears", (b"n", b"3"))))[0] == 200
            assert (await post(gateway, VARIATIONS, sent_form(b"ears")))[0] == 200
            await gateway.idle()
            held = [row["held_nusd"] for row in await gateway.rows("acme")]
            assert held == [16_000 * 1_000 + pictures * 2_000 * 4_000 for pictures in (3, 1)]
            assert await code(gateway, EDITS, sent_form(b"ears", (b"n", b"3x"))) == (400, "invalid_parameter", "n")


async def test_a_transcription_by_the_minute_holds_the_longest_sound_that_the_operator_vouches_for():
    by_time = """
[[models.by-time.deployments]]
provider = "scripted"
model = "whisper-1"
audio_seconds_max = 1_500
"""
    async with scripted_upstream(answer(b'{"text":"hi","usage":{"type":"duration","seconds":9}}')) as upstream:
        text = configuration(upstream.base_url, CAPPED + by_time)
        text = text.replace("provider_key", 'catalog = "openai"\nprovider_key')
        async with running_gateway(text) as gateway:
            assert (await post(gateway, TRANSCRIPTIONS, sent_form(b"by-time")))[0] == 200
            await gateway.idle()
            (row,) = await gateway.rows("acme")
            per_minute_nusd = 6_000_000  # $0.006
            assert (row["held_nusd"], row["charged_nusd"]) == (25 * per_minute_nusd, per_minute_nusd * 9 // 60)


NOTHING_SAID = {
    "minutes of a model that is sold by tokens": (b"ears", b'{"type":"duration","seconds":900}', HELD_NUSD),
    "tokens of a model that is sold by the minute": (b"by-time", b'{"input_tokens":14,"output_tokens":9}', 150_000_000),
    "no tokens": (b"ears", b'{"input_tokens":0,"output_tokens":0}', HELD_NUSD),
}


@pytest.mark.parametrize(("model", "usage", "held_nusd"), NOTHING_SAID.values(), ids=NOTHING_SAID)
async def test_a_report_of_nothing_that_has_a_price_costs_what_was_held(model, usage, held_nusd):
    by_time = '[[models.by-time.deployments]]\nprovider = "scripted"\nmodel = "whisper-1"\naudio_seconds_max = 1_500\n'
    async with scripted_upstream(answer(b'{"text":"hi","usage":%b}' % usage)) as upstream:
        text = configuration(upstream.base_url, CAPPED + by_time)
        text = text.replace("provider_key", 'catalog = "openai"\nprovider_key')
        async with running_gateway(text) as gateway:
            _, headers, _ = await post(gateway, TRANSCRIPTIONS, sent_form(model))
            assert float(headers[b"x-tollway-cost-usd"]) == held_nusd / 1e9
            await gateway.idle()
            (row,) = await gateway.rows("acme")
            assert (row["charged_nusd"], row["usage_source"]) == (held_nusd, "worst_case")


UNPRICED = {
    "a model without a price": (sent_form(b"another"), "unpriced_model"),
    "no model": (sent_form(None), "unpriced_model"),
    "passes that nobody counts": (sent_form(b"ears", (b"chunking_strategy[type]", b"server_vad")), "unpriced_endpoint"),
    "time without an end": (sent_form(b"by-time"), "unpriced_endpoint"),
}


@pytest.mark.parametrize(("body", "expected"), UNPRICED.values(), ids=UNPRICED)
async def test_what_has_no_bound_is_refused_under_a_cap(body, expected):
    by_time = '[[models.by-time.deployments]]\nprovider = "scripted"\nmodel = "whisper-1"\n'
    async with scripted_upstream(answer(b"{}")) as upstream:
        text = configuration(upstream.base_url, CAPPED + by_time)
        text = text.replace("provider_key", 'catalog = "openai"\nprovider_key')
        async with running_gateway(text) as gateway:
            assert (await code(gateway, TRANSCRIPTIONS, body))[:2] == (403, expected)
            assert upstream.received == []


# ── streams ──────────────────────────────────────────────────────────────────────────────


async def test_a_form_that_asks_for_a_stream_has_a_streams_timeouts_and_usage():
    events = (
        b'data: {"type":"transcript.text.delta","delta":"hi"}\n\n',
        b'data: {"type":"transcript.text.done","text":"hi","usage":{"input_tokens":14,"output_tokens":45}}\n\n',
    )
    async with scripted_upstream(stream(*events)) as upstream:
        text = configuration(upstream.base_url, CAPPED)
        text = text.replace("provider_key", "timeouts_s = { first_byte = 0.2 }\nprovider_key")
        async with running_gateway(text) as gateway:
            streamed = sent_form(b"ears", (b"stream", b"True"))
            status, _, got = await post(gateway, TRANSCRIPTIONS, streamed)
            assert (status, got) == (200, b"".join(events))
            await gateway.idle()
            (row,) = await gateway.rows("acme")
            assert (row["stream"], row["usage_source"], row["output_tokens"]) == (True, "exact", 45)
            upstream.script = lambda _: [0.6, *answer(HEARD)]
            assert (await code(gateway, TRANSCRIPTIONS, streamed))[0] == 504
            assert (await post(gateway, TRANSCRIPTIONS, sent_form()))[0] == 200  # a plain one may take its time


# ── two readers, and bad forms ───────────────────────────────────────────────────────────

BAD = {
    "twice": (sent_form(b"ears", (b"model", b"other")), form_headers(), 400, "duplicate_parameter"),
    "in another case": (sent_form(b"ears", (b"MODEL", b"other")), form_headers(), 400, "duplicate_parameter"),
    "empty": (sent_form(b""), form_headers(), 400, "invalid_parameter"),
    "too long": (sent_form(b"m" * 257), form_headers(), 400, "invalid_parameter"),
    "cut off": (sent_form()[:-20], form_headers(), 400, "invalid_form"),
    "no boundary": (sent_form(), [(b"content-type", b"multipart/form-data")], 400, "invalid_form"),
    "another boundary": (sent_form(), form_headers(b"y"), 400, "invalid_form"),
    "a name in another charset": (
        sent_form(b"ears", (b"+AG0-odel", b"house")),
        [(b"content-type", b"multipart/form-data; charset=utf-7; boundary=x")],
        400,
        "invalid_form",
    ),
    "another multipart": (sent_form(), [(b"content-type", b"multipart/mixed; boundary=x")], 400, "invalid_form"),
    "a browser's": (b"model=ears", [(b"content-type", b"application/x-www-form-urlencoded")], 400, "invalid_form"),
    "compressed": (sent_form(), [*form_headers(), (b"content-encoding", b"gzip")], 415, "unsupported_content_encoding"),
    "a file of the account's, escaped": (
        sent_form(b"ears", (b"images[0][%66ile_id]", b"file-1")),
        form_headers(),
        403,
        "stateful_path_not_isolated",
    ),
    "a model of the account's own": (sent_form(b"ft:x:acme::1"), form_headers(), 403, "stateful_path_not_isolated"),
    "a file of the account's": (
        sent_form(b"ears", (b"images[0][file_id]", b"file-1")),
        form_headers(),
        403,
        "stateful_path_not_isolated",
    ),
}


@pytest.mark.parametrize(("body", "fields", "status", "expected"), BAD.values(), ids=BAD)
async def test_a_form_that_two_readers_could_read_differently_is_refused_and_its_connection_serves_on(
    body, fields, status, expected
):
    fields = [*fields, (b"x-tollway-tenant", b"acme")]
    first = request_bytes("POST", EDITS, body, fields).replace(b"connection: close\r\n", b"")
    second = request_bytes("POST", EDITS, sent_form(), [*form_headers(), (b"x-tollway-tenant", b"acme")])
    async with scripted_upstream(answer(b"{}")) as upstream:
        async with running_gateway(configuration(upstream.base_url)) as gateway:
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(first)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d " % status)
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            assert error_of(await reader.readexactly(length))["code"] == expected
            assert upstream.received == []
            writer.write(second)
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
            writer.close()


async def test_an_early_refusal_of_a_large_form_ends_cleanly():
    """The fault stands at the form's beginning: nobody waits for the rest of it."""
    body = sent_form(b"ears", (b"MODEL", b"x"), sound=SOUND * 200, first=True)
    body = body.replace(b'name="file"', b'name="Model"', 1)
    async with scripted_upstream(answer(b"{}")) as upstream:
        async with running_gateway(configuration(upstream.base_url)) as gateway:
            status, _, got = await post(gateway, TRANSCRIPTIONS, body)
            assert (status, error_of(got)["code"]) == (400, "duplicate_parameter")
            await gateway.idle()
            assert (upstream.connections_made, await gateway.rows("acme")) == (0, [])


# ── large forms ──────────────────────────────────────────────────────────────────────────

SMALL = "body_bytes_max = 100_000"
LARGE = SOUND * 40  # a megabyte


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_form_beyond_the_bound_is_passed_on_as_it_comes(is_chunked):
    body = sent_form(b"ears", (b"language", b"de"), sound=LARGE, first=True)
    fields = [*form_headers(), (b"x-tollway-tenant", b"acme")]
    raw = request_bytes("POST", TRANSCRIPTIONS, body, fields)
    if is_chunked:
        raw = chunked_bytes(TRANSCRIPTIONS, body, fields)
    expected = body.replace(b"\r\nears\r\n", b"\r\nhearing-2026\r\n")
    async with scripted_upstream(answer(b"{}")) as upstream:
        async with running_gateway(configuration(upstream.base_url, server=SMALL)) as gateway:
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(raw[:-100_000])
            await until(lambda: upstream.open_connections == 1)  # long before it is whole
            writer.write(raw[-100_000:])
            assert (await asyncio.wait_for(reader.read(), 10.0)).startswith(b"HTTP/1.1 200 ")
            writer.close()
            assert upstream.received[0].body_sha256 == sha256(expected)
            told = None if is_chunked else b"%d" % len(expected)
            assert upstream.received[0].header(b"content-length") == told


LATE = {
    "the model again": ((b"model", b"other"), "duplicate_parameter"),
    "the number of pictures": ((b"n", b"10"), "invalid_parameter"),
    "the end missing": (None, "invalid_form"),
}


@pytest.mark.parametrize(("late", "expected"), LATE.values(), ids=LATE)
async def test_what_would_decide_behind_the_bound_is_never_sent_whole(late, expected):
    parts: list[Part] = [(b"model", b"ears"), (b"file", b"f", LARGE)]
    body = form([*parts, late]) if late is not None else form(parts)[:-8]
    async with scripted_upstream([Do.HANG]) as upstream:
        async with running_gateway(configuration(upstream.base_url, server=SMALL)) as gateway:
            assert (await code(gateway, EDITS, body))[:2] == (400, expected)
            await until(lambda: upstream.open_connections == 0)
            assert (upstream.connections_made, upstream.received) == (1, [])
            await gateway.idle()
            (row,) = await gateway.rows("acme")
            assert (row["status"], row["error_source"]) == (400, "caller")


async def test_a_number_of_pictures_that_stands_across_the_bound_is_never_sent_whole():
    """Its head comes before the bound, its value behind it: one picture was held by then, and ten would be made."""
    body = form([(b"model", b"ears"), (b"file", b"f", LARGE), (b"n", b"10")])
    raw = request_bytes("POST", EDITS, body, [*form_headers(), (b"x-tollway-tenant", b"acme")])
    async with scripted_upstream([Do.HANG]) as upstream:
        bound = f"body_bytes_max = {body.index(b'10', len(LARGE)) - 4}"
        async with running_gateway(configuration(upstream.base_url, CAPPED, server=bound)) as gateway:
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(raw[: raw.rindex(b"10\r\n")])
            await until(lambda: upstream.open_connections == 1)
            writer.write(raw[raw.rindex(b"10\r\n") :])
            assert (await asyncio.wait_for(reader.readuntil(b"\r\n"), 10.0)).startswith(b"HTTP/1.1 400 ")
            writer.close()
            await until(lambda: upstream.open_connections == 0)
            assert upstream.received == []


async def test_a_model_behind_the_bound_is_asked_to_come_first():
    async with scripted_upstream(answer(b"{}")) as upstream:
        async with running_gateway(configuration(upstream.base_url, server=SMALL)) as gateway:
            found = await code(gateway, TRANSCRIPTIONS, sent_form(b"ears", sound=LARGE))
            assert found == (413, "request_too_large", "model")
            assert upstream.connections_made == 0


async def test_files_to_keep_are_not_held_for_a_model_that_they_do_not_name():
    body = form([(b"purpose", b"batch"), (b"file", b"f", LARGE * 3)])
    raw = request_bytes("POST", "/v1/files", body, [*form_headers(), (b"x-tollway-tenant", b"acme")])
    async with scripted_upstream(answer(b"{}")) as upstream:
        text = configuration(upstream.base_url).replace("provider_key", "allow_shared_state = true\nprovider_key")
        async with running_gateway(text) as gateway:
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(raw[:-100_000])
            await until(lambda: upstream.open_connections == 1)
            writer.write(raw[-100_000:])
            assert (await asyncio.wait_for(reader.read(), 10.0)).startswith(b"HTTP/1.1 200 ")
            writer.close()
            assert upstream.received[0].body_sha256 == sha256(body)


async def test_uploads_that_hang_up_before_they_are_whole_reach_nobody():
    sent = request_bytes("POST", TRANSCRIPTIONS, sent_form(), [*form_headers(), (b"x-tollway-tenant", b"acme")])
    async with scripted_upstream(answer(b"{}")) as upstream:
        async with running_gateway(configuration(upstream.base_url)) as gateway:
            _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(sent[:-10])
            await until(lambda: len(gateway.state.tasks) == 1)
            writer.close()
            (line,) = await gateway.log_lines(1)
            assert (line["status"], line["error"]) == (499, "caller_gone")
            assert (upstream.connections_made, await gateway.rows("acme")) == (0, [])


async def test_a_large_upload_is_not_held_beyond_the_bound():
    """200 MB pass through a process that may hold a tenth of a megabyte of each."""
    piece = SOUND * 40
    count = 200
    beginning, _, end = sent_form(b"ears", sound=b"|", first=True).partition(b"|")
    length = len(beginning) + count * len(piece) + len(end)
    fields = [*form_headers(), (b"x-tollway-tenant", b"acme")]
    head = request_bytes("POST", TRANSCRIPTIONS, b"", fields).replace(b"length: 0", b"length: %d" % length)
    taken = 0

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        told = await reader.readuntil(b"\r\n\r\n")
        left = int(told.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while left and (got := await reader.read(1 << 18)):
            left -= len(got)
            taken += len(got)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with running_gateway(configuration(f"http://127.0.0.1:{port}/v1", server=SMALL)) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        tracemalloc.start()
        writer.write(head + beginning)
        for _ in range(count):
            writer.write(piece)
            await writer.drain()
        writer.write(end)
        assert (await asyncio.wait_for(reader.read(), 20.0)).startswith(b"HTTP/1.1 200 ")
        writer.close()
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    server.close()
    assert taken == length + len(b"hearing-2026") - len(b"ears")
    assert peak_bytes < 8_000_000  # the sockets' buffers at both ends and in between included
