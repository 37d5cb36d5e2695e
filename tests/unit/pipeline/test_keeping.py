"""Which answers are kept: each reason why one is not, and that no other one stands before it."""

from types import SimpleNamespace
from typing import cast

import pytest

from proxy.admission.terms import Demand
from proxy.core.consent import Tier
from proxy.core.errors import CallerGone, GatewayError
from proxy.core.types import Call, Deployment, InboundRequest, KeySource
from proxy.dialects.openai import classify
from proxy.dialects.opening import Opening
from proxy.dialects.usage import UsageTap
from proxy.pipeline.attempt import Attempt
from proxy.pipeline.cache_use import AnswerCopy, CopyRoom
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.keeping import why_not_kept
from proxy.pipeline.payment import Payment
from proxy.pipeline.snapshot import Snapshot
from proxy.pipeline.ticket import Ticket
from proxy.routing.resolve import Candidate
from proxy.settings.model import ProviderSettings
from proxy.upstream.payer import Payer

OPENAI = ProviderSettings("openai", "https://api.openai.com/v1")
JSON, EVENTS, SOUND = b"application/json", b"text/event-stream", b"audio/mpeg"
CHAT = ("chat", "completions")
WHOLE = b'{"choices":[]}'
DELTA, DONE = b'data: {"choices":[]}\n\n', b"data: [DONE]\n\n"


class Purse(Payment):
    """Says what it is told to of a key that paid, and knows of which."""

    def __init__(self, *, is_users: bool) -> None:
        super().__init__(None)
        self._is_users = is_users

    def may_be_users_own(self, exchange: Exchange, provider: ProviderSettings) -> bool:
        assert provider is OPENAI
        return self._is_users


def reason(
    *pieces: bytes,
    path: tuple[str, ...] = CHAT,
    content_type: bytes | None = JSON,
    stream: bool = False,
    status: int = 200,
    error: GatewayError | None = None,
    is_asked: bool = True,
    upstream_status: int | None = 200,
    opening: Opening = Opening.ANSWER,
    is_heard: bool = True,
    bytes_max: int = 1_000,
    is_delimited: bool = True,
    tier: Tier = Tier.SAME,
    is_limited: bool = False,
    ceiling: int | None = None,
    key_source: KeySource = KeySource.GATEWAY,
    is_users: bool = False,
) -> str | None:
    """Why an answer of these pieces is not kept."""
    providers = {"openai": SimpleNamespace(settings=OPENAI)}
    snapshot, operation = cast(Snapshot, SimpleNamespace(providers=providers)), classify("POST", path)
    exchange = Exchange("run_1", cast(InboundRequest, None), snapshot, operation, 0, 0)
    exchange.call, exchange.status, exchange.error = Call(stream=stream), status, error
    if is_limited:
        exchange.ticket = Ticket(cast(Demand, None), 0, inserted_ceiling=ceiling)
    copy = AnswerCopy(CopyRoom(10_000), bytes_max)
    copy.is_delimited = is_delimited
    if content_type is not None:
        copy.headers = ((b"content-type", content_type),)
    if is_asked:
        candidate = Candidate(Deployment("openai", "m"), "openai/m", tier)
        attempt = exchange.attempt = Attempt(candidate, operation, exchange.call, Payer(key_source, None), None)
        attempt.upstream_status, attempt.opening = upstream_status, opening
        tap = UsageTap(operation, content_type, None)
        for piece in pieces:
            tap.feed(piece)
        attempt.usage_tap = tap if is_heard else None
    for piece in pieces:
        copy.take(piece)
    return why_not_kept(exchange, copy, Purse(is_users=is_users))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, WHOLE),
        (("completions",), b'{"choices":[]}'),
        (("responses",), b'{"output":[]}'),
        (("messages",), b'{"content":[]}'),
        (("messages", "count_tokens"), b'{"input_tokens":3}'),
        (("embeddings",), b'{"data":[]}'),
        (("moderations",), b'{"results":[]}'),
    ],
)
def test_an_answer_of_its_endpoint_is_kept_and_one_of_another_is_not(path, body):
    assert reason(body, path=path) is None
    assert reason(b'{"object":"list"}', path=path) == "not_whole"
    assert reason(body.replace(b"[]", b"{}").replace(b"3", b'"3"'), path=path) == "not_whole"
    assert reason(body[:-1] + b',"error":{"message":"no"}}', path=path) == "not_whole"
    assert reason(body[:-1] + b',"error":["no"]}', path=path) == "not_whole"
    assert reason(body[:-1] + b',"error":null}', path=path) is None  # as OpenAI's responses have it
    assert reason(body[:-1], path=path) == "not_whole"
    assert reason(b"[" + body + b"]", path=path) == "not_whole"


@pytest.mark.parametrize(
    ("exchange", "expected"),
    [
        # it did not end well
        ({"error": CallerGone("")}, "failed"),
        ({"status": 201}, "failed"),
        ({"status": 400}, "failed"),
        ({"upstream_status": 201}, "failed"),
        ({"upstream_status": None}, "failed"),
        ({"is_asked": False}, "failed"),
        ({"error": CallerGone(""), "bytes_max": 1}, "failed"),  # the first that holds is told
        # as long as may be, and longer
        ({"bytes_max": len(WHOLE)}, None),
        ({"bytes_max": len(WHOLE) - 1}, "too_long"),
        # nobody knows what it is
        ({"content_type": None}, "not_whole"),
        ({"content_type": b"text/html"}, "not_whole"),
        ({"content_type": b"application/json; charset=utf-8"}, None),
        ({"is_heard": False}, "not_whole"),
        ({"opening": Opening.ERROR}, "not_whole"),
        ({"stream": True}, "not_whole"),  # a stream was asked for
        # it was made for an outage
        ({"tier": Tier.EQUIVALENT}, "fallback"),
        ({"tier": Tier.LOWER}, "fallback"),
        # the gateway's ceiling, and none
        ({"is_limited": True}, None),
        ({"is_limited": True, "ceiling": 20}, "shortened"),
        # who paid
        ({"key_source": KeySource.TENANT}, None),
        ({"key_source": KeySource.TENANT, "is_users": True}, "users_own_key"),
        ({"key_source": KeySource.CALLER, "is_users": True}, "users_own_key"),
        ({"is_users": True}, None),  # the gateway's own paid, whatever is stored
    ],
)
def test_a_whole_answer_is_kept_unless(exchange, expected):
    assert reason(WHOLE, **exchange) == expected


@pytest.mark.parametrize(
    ("pieces", "more", "expected"),
    [
        ((DELTA, DONE), {}, None),
        ((DELTA, DONE[:-1]), {}, None),  # it says that it is the last, and its empty line is missing
        ((DELTA,), {}, "not_whole"),
        ((DELTA, b'data: {"error":{"message":"overloaded"}}\n\n', DONE), {}, "not_whole"),
        ((DELTA, DONE), {"stream": False}, "not_whole"),  # nobody asked for one
        ((DELTA, DONE), {"opening": Opening.REFUSAL}, "not_whole"),
        ((), {}, "not_whole"),
        ((b"event: message_stop\ndata: {}\n\n",), {"path": ("messages",)}, "not_whole"),
        ((b'event: message_stop\ndata: {"type":"message_stop"}\n\n',), {"path": ("messages",)}, None),
        ((b'data: {"type":"response.completed","response":{}}\n\n',), {"path": ("responses",)}, None),
        ((b'data: {"type":"response.failed","response":{}}\n\n',), {"path": ("responses",)}, "not_whole"),
        ((DELTA,), {"path": ("embeddings",)}, "not_whole"),  # whose end nobody knows
    ],
)
def test_a_stream_is_kept_once_its_last_event_has_come(pieces, more, expected):
    assert reason(*pieces, **{"content_type": EVENTS, "stream": True, **more}) == expected


@pytest.mark.parametrize(
    ("sound", "content_type", "expected"),
    [
        (b"ID3", SOUND, None),
        (b"ID3", b"Audio/WAV", None),
        (b"", SOUND, "not_whole"),
        (b"<html>", b"text/html", "not_whole"),
        (b"{}", JSON, "not_whole"),
        (b"ID3", None, "not_whole"),
    ],
)
def test_speech_is_sound(sound, content_type, expected):
    assert reason(*filter(None, [sound]), path=("audio", "speech"), content_type=content_type) == expected


def test_speech_that_ends_with_its_connection_may_have_been_cut():
    assert reason(b"x", path=("audio", "speech"), content_type=SOUND, is_delimited=False) == "not_whole"
