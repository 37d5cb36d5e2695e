"""What the simulated provider says to a request: an endpoint's answer, its headers, its timing.

Pure: the same request and stamp give the same bytes. `transport` plays a script in process;
a server can play it over a socket.
"""

from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

from proxy.core import jsonio
from proxy.core.errors import InvalidJson
from proxy.core.types import Headers
from proxy.simulated import refusals
from proxy.simulated.behaviour import MODELS, Behaviour, parse_model
from proxy.simulated.chat import chat_completion, completion
from proxy.simulated.embeddings import embeddings
from proxy.simulated.refusals import Refusal
from proxy.simulated.responses import response
from proxy.simulated.steps import Document, Fault, Reply, Script, Stamp, Step

Endpoint: TypeAlias = Callable[[Document, str, Behaviour, Stamp], Reply]

MODELS_CREATED_AT_S: Final = 1_763_596_800  # 2025-11-20T00:00:00Z

_ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    "/chat/completions": chat_completion,
    "/completions": completion,
    "/embeddings": embeddings,
    "/responses": response,
}
_JSON: Final = (b"content-type", b"application/json")
_SSE: Final = (b"content-type", b"text/event-stream; charset=utf-8")
_CHUNKED: Final = (b"transfer-encoding", b"chunked")
_AS_OPENAI: Final[Headers] = (
    (b"openai-organization", b"org-simulated"),
    (b"openai-processing-ms", b"1"),
    (b"openai-version", b"2020-10-01"),
    (b"x-ratelimit-limit-requests", b"10000"),
    (b"x-ratelimit-limit-tokens", b"2000000"),
    (b"x-ratelimit-remaining-requests", b"9999"),
    (b"x-ratelimit-remaining-tokens", b"1999000"),
    (b"x-ratelimit-reset-requests", b"6ms"),
    (b"x-ratelimit-reset-tokens", b"30ms"),
    (b"server", b"simulated"),
)


def script(method: str, path: str, body: bytes, stamp: Stamp) -> Script:
    """The answer to one request. A request that cannot be answered gets an error's script.

    `path` may begin with `/v1` and may carry a query, which changes nothing.
    """
    path = path.partition("?")[0].removeprefix("/v1")
    behaviour = Behaviour()
    try:
        if path == "/models" or path.startswith("/models/"):
            return _whole(200, _models(method, path), (), stamp, behaviour)
        endpoint = _ENDPOINTS.get(path)
        if endpoint is None:
            raise refusals.unknown_url(method, f"/v1{path}")
        if method != "POST":
            raise refusals.wrong_method("POST")
        document = _document(body)
        model, behaviour = _model(document)
        if behaviour.status is not None:
            raise refusals.asked_for(behaviour.status, model)
        reply = endpoint(document, model, behaviour, stamp)
    except Refusal as refusal:
        return refused(refusal, stamp, behaviour)
    if isinstance(reply, bytes):
        return _whole(200, reply, (), stamp, behaviour)
    return _streamed(reply, stamp, behaviour)


def refused(refusal: Refusal, stamp: Stamp, behaviour: Behaviour = Behaviour()) -> Script:  # noqa: B008 (frozen)
    """An error as an answer."""
    return _whole(refusal.status, refusal.body, refusal.headers, stamp, behaviour)


def _document(body: bytes) -> Document:
    try:
        document = jsonio.parse(body)
    except InvalidJson:
        raise refusals.not_json() from None
    if not isinstance(document, dict):
        raise refusals.not_json()
    return document


def _model(document: Document) -> tuple[str, Behaviour]:
    model = document.get("model")
    if model is None:
        raise Refusal(400, "you must provide a model parameter")
    if not isinstance(model, str):
        raise refusals.wrong_type("model", "a string")
    behaviour = parse_model(model)
    if behaviour is None:
        raise refusals.unknown_model(model)
    return model, behaviour


def _models(method: str, path: str) -> bytes:
    if method != "GET":
        raise refusals.wrong_method("GET")
    name = unquote(path.removeprefix("/models").removeprefix("/"))
    if not name:
        return jsonio.encode({"object": "list", "data": [_model_object(model) for model in MODELS]})
    if parse_model(name) is None:
        raise refusals.unknown_model(name)
    return jsonio.encode(_model_object(name))


def _model_object(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": MODELS_CREATED_AT_S, "owned_by": "simulated"}


# ── what goes on the wire, and when ──────────────────────────────────────────────────────


def _whole(status: int, body: bytes, extra: Headers, stamp: Stamp, behaviour: Behaviour) -> Script:
    length = (b"content-length", str(len(body)).encode())
    headers = (*_head(stamp), _JSON, length, *extra)
    half = len(body) // 2
    steps = _broken(behaviour, (body[:half],)) or (Step(behaviour.first_ms, body),)
    return Script(status, headers, steps)


def _streamed(events: list[bytes], stamp: Stamp, behaviour: Behaviour) -> Script:
    headers = (*_head(stamp), _SSE, (b"cache-control", b"no-cache"), _CHUNKED)
    first_half = tuple(events[: max(1, len(events) // 2)])
    steps = _broken(behaviour, first_half)
    if steps is None:
        steps = _timed(behaviour, first_half if behaviour.breaks == "truncated" else events)
    return Script(200, headers, steps)


def _head(stamp: Stamp) -> Headers:
    date = formatdate(stamp.at_s, usegmt=True).encode()  # RFC 9110, section 5.6.7
    return ((b"date", date), (b"x-request-id", b"req_" + stamp.unique.encode()), *_AS_OPENAI)


def _broken(behaviour: Behaviour, first_half: tuple[bytes, ...]) -> tuple[Step, ...] | None:
    """The steps of an answer that does not end well; None where it does, or only lacks its end."""
    first_ms = behaviour.first_ms
    match behaviour.breaks:
        case "hang":
            return (Step(first_ms, fault=Fault.HANG),)
        case "drop":
            return (Step(first_ms, fault=Fault.RESET),)
        case "malformed":
            return (Step(first_ms, fault=Fault.MALFORMED),)
        case "stall":
            return (*_timed(behaviour, first_half), Step(behaviour.every_ms, fault=Fault.HANG))
        case "reset":
            return (*_timed(behaviour, first_half), Step(behaviour.every_ms, fault=Fault.RESET))
    return None


def _timed(behaviour: Behaviour, chunks: list[bytes] | tuple[bytes, ...]) -> tuple[Step, ...]:
    first, *rest = chunks
    return (Step(behaviour.first_ms, first), *(Step(behaviour.every_ms, chunk) for chunk in rest))
