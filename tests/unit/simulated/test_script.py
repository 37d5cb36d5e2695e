import json

import pytest

from proxy.simulated.refusals import STATUSES
from proxy.simulated.script import script
from proxy.simulated.steps import Fault, Stamp, Step

STAMP = Stamp(at_s=784_111_777, unique="0123456789abcdef0123456789abcdef")
CHAT = "/v1/chat/completions"


def body(model: str = "simulated", *, stream: bool = False) -> bytes:
    messages = [{"role": "user", "content": "Hello there"}]
    return json.dumps({"model": model, "stream": stream, "messages": messages}).encode()


def played(model: str, *, stream: bool) -> tuple[Step, ...]:
    return script("POST", CHAT, body(model, stream=stream), STAMP).steps


def error(method: str, path: str, sent: bytes = b"") -> tuple[int, dict[str, object]]:
    answer = script(method, path, sent, STAMP)
    (step,) = answer.steps
    return answer.status, json.loads(step.chunk)["error"]


@pytest.mark.parametrize("stream", [False, True])
def test_the_same_request_and_stamp_give_the_same_script(stream):
    assert script("POST", CHAT, body(stream=stream), STAMP) == script("POST", CHAT, body(stream=stream), STAMP)


@pytest.mark.parametrize("path", [CHAT, "/chat/completions", CHAT + "?api-version=1"])
def test_the_version_may_be_missing_and_a_query_changes_nothing(path):
    assert script("POST", path, body(), STAMP).status == 200


def test_headers_are_the_real_ones():
    answer = script("POST", CHAT, body(), STAMP)
    headers = dict(answer.headers)
    assert len(headers) == len(answer.headers)
    assert headers[b"date"] == b"Sun, 06 Nov 1994 08:49:37 GMT"  # RFC 9110's own example
    assert headers[b"content-type"] == b"application/json"
    assert int(headers[b"content-length"]) == len(answer.steps[0].chunk)
    assert headers[b"x-request-id"] == b"req_" + STAMP.unique.encode()
    assert {b"openai-processing-ms", b"openai-version", b"x-ratelimit-remaining-tokens", b"server"} <= headers.keys()
    assert not answer.is_chunked


def test_a_stream_is_chunked():
    answer = script("POST", CHAT, body(stream=True), STAMP)
    assert answer.is_chunked
    assert dict(answer.headers)[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert b"content-length" not in dict(answer.headers)


# ── refusals ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "code"),
    [
        ("POST", "/v1/unheard/of", b"{}", 404, None),
        ("GET", CHAT, b"", 405, "method_not_supported"),
        ("POST", "/v1/models", b"{}", 405, "method_not_supported"),
        ("GET", "/v1/models/gpt-5", b"", 404, "model_not_found"),
        ("POST", CHAT, b"", 400, None),
        ("POST", CHAT, b"[]", 400, None),
        ("POST", CHAT, b'{"messages": []}', 400, None),  # no model
        ("POST", CHAT, b'{"model": 5}', 400, "invalid_type"),
        ("POST", CHAT, body("gpt-5"), 404, "model_not_found"),
    ],
)
def test_refusals(method, path, sent, status, code):
    found, document = error(method, path, sent)
    assert (found, document["code"]) == (status, code)
    assert set(document) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("status", sorted(STATUSES))
@pytest.mark.parametrize("stream", [False, True])
def test_a_status_that_is_asked_for(status, stream):
    found, document = error("POST", CHAT, body(f"simulated-{status}", stream=stream))
    assert found == status
    assert document["message"]


def test_too_many_requests_says_when_to_come_back():
    answer = script("POST", CHAT, body("simulated-429"), STAMP)
    headers = dict(answer.headers)
    assert (headers[b"retry-after"], headers[b"retry-after-ms"]) == (b"1", b"1000")
    assert json.loads(answer.steps[0].chunk)["error"]["code"] == "rate_limit_exceeded"


def test_models():
    listed = json.loads(script("GET", "/v1/models", b"", STAMP).steps[0].chunk)
    names = [model["id"] for model in listed["data"]]
    assert {"simulated", "simulated-slow", "simulated-embedding"} <= set(names)
    for name in names:
        assert json.loads(script("GET", f"/v1/models/{name}", b"", STAMP).steps[0].chunk)["id"] == name


# ── time and faults ──────────────────────────────────────────────────────────────────────


def test_delays_come_before_the_first_byte_and_before_each_further_event():
    delays_ms = [step.delay_ms for step in played("simulated-first50ms-every7ms-2chunks", stream=True)]
    assert delays_ms == [50, 7, 7, 7, 7]
    assert [step.delay_ms for step in played("simulated-first50ms-every7ms", stream=False)] == [50]


@pytest.mark.parametrize("model", ["simulated-hang", "simulated-drop", "simulated-malformed"])
@pytest.mark.parametrize("stream", [False, True])
def test_faults_before_the_head(model, stream):
    (step,) = played(model, stream=stream)
    expected = {"hang": Fault.HANG, "drop": Fault.RESET, "malformed": Fault.MALFORMED}
    assert step.fault is expected[model.removeprefix("simulated-")]


@pytest.mark.parametrize(("model", "fault"), [("simulated-stall", Fault.HANG), ("simulated-reset", Fault.RESET)])
@pytest.mark.parametrize("stream", [False, True])
def test_faults_in_the_middle(model, fault, stream):
    whole = [step.chunk for step in played("simulated", stream=stream)]
    *begun, broken = played(model, stream=stream)
    shown = b"".join(step.chunk for step in begun)
    assert broken.fault is fault
    assert 0 < len(shown) < len(b"".join(whole))
    assert (b"[DONE]" in b"".join(whole)) == stream
    assert b"[DONE]" not in shown


def test_a_truncated_stream_ends_cleanly_without_its_last_events():
    steps = played("simulated-truncated-5chunks", stream=True)
    assert [step.fault for step in steps] == [None] * 4  # of eight
    assert b'finish_reason":"' not in steps[-1].chunk
