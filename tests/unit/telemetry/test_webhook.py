"""A notice is posted once, waits for nobody, and never shows its URL."""

import asyncio
import json
import logging

import pytest

from proxy.adapters.http.transport import Transport
from proxy.core.secret import Secret
from proxy.telemetry.webhook import Webhook
from tests.scripted_upstream import answer, scripted_upstream, until


async def test_a_notice_is_posted_as_json():
    webhook = Webhook(Transport())
    async with scripted_upstream(answer(b"ok")) as receiver:
        webhook.post(Secret(f"{receiver.base_url}/hook?token=t0p"), {"event": "soft_cap"})
        await until(lambda: bool(receiver.received))
        (got,) = receiver.received
        assert (got.method, json.loads(got.body)) == ("POST", {"event": "soft_cap"})
        assert got.target.endswith("/hook?token=t0p")
        assert got.header(b"content-type") == b"application/json"
        await webhook.aclose()


@pytest.mark.parametrize("status", [b"302 Found", b"500 Oops", None])
async def test_a_receiver_that_does_not_take_it_is_logged_without_its_url(status, caplog):
    webhook = Webhook(Transport())
    async with scripted_upstream(answer(b"no", status=status or b"200 OK")) as receiver:
        url = f"{receiver.base_url}/hook?token=t0p" if status else "http://127.0.0.1:9/hook?token=t0p"  # nobody listens
        webhook.post(Secret(url), {})
        await until(lambda: bool(caplog.records))
        assert "t0p" not in caplog.text
        assert ("answered" if status else "could not be told") in caplog.text
        await webhook.aclose()


async def test_what_is_too_much_at_once_is_dropped_and_an_end_waits_for_none(caplog):
    caplog.set_level(logging.WARNING)
    webhook = Webhook(Transport())
    async with scripted_upstream(lambda _request: [30.0]) as receiver:
        for _ in range(17):
            webhook.post(Secret(f"{receiver.base_url}/hook"), {})
        assert [record.message for record in caplog.records] == ["a webhook is too slow: a notice was dropped"]
        async with asyncio.timeout(2):
            await webhook.aclose()
