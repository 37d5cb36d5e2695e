"""Which headers cross the gateway, each way.

Pure. Hop-by-hop fields end here (RFC 9110, section 7.6.1); credentials and account names
cross only where the caller's own key pays; everything else passes as it came.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from urllib.parse import unquote_plus

from proxy.core.secret import Secret
from proxy.core.types import InboundRequest, KeySource
from proxy.dialects.dialect import Dialect
from proxy.dialects.openai import ACCOUNT_HEADERS, ACCOUNT_RESPONSE_HEADERS, CREDENTIAL_HEADERS, Shape

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# Fields that speak to this hop, or that the next hop gets anew.
_REQUEST_DROPPED = HOP_BY_HOP | {
    b"host",
    b"content-length",
    b"expect",
    b"accept-encoding",
    # Where the caller sits, and by which name it reached us, is between it and the gateway.
    b"forwarded",
    b"x-forwarded",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-prefix",
    b"x-forwarded-proto",
    b"x-forwarded-server",
    b"x-host",
    b"x-real-ip",
    # What makes some servers serve another method or path than the one that was checked.
    b"x-http-method",
    b"x-http-method-override",
    b"x-method-override",
    b"x-original-url",
    b"x-rewrite-url",
}
# Where the gateway pays, the caller's keys and account end here too.
_DROPPED_FROM_GATEWAY = HOP_BY_HOP | ACCOUNT_RESPONSE_HEADERS
_DROPPED_FOR_GATEWAY = _REQUEST_DROPPED | CREDENTIAL_HEADERS | ACCOUNT_HEADERS
# Parameters of a query that carry a key (Gemini's `key`, Azure's `api-key`).
_QUERY_KEYS = frozenset({"key", "api-key", "api_key", "apikey", "access_token", "subscription-key"})
_OURS = b"x-tollway-"
_OF_ONE_API = (b"anthropic-", b"openai-", b"content-encoding")
_REQUEST_IDS = (b"request-id", b"x-request-id")  # Anthropic's, OpenAI's
_EVENT_STREAM = b"text/event-stream"
_OF_ONE_BODY = frozenset({b"content-encoding", b"content-length", b"content-type", b"etag"})
_ZERO_WEIGHT = re.compile(rb"q\s*=\s*0(\.0*)?\s*(;|$)")
_READABLE_CODINGS = (b"gzip", b"deflate", b"identity")


def request_headers(
    request: InboundRequest,
    dialect: Dialect,
    payer: KeySource,
    provider_key: Secret | None,
    *,
    content_length: bytes | None = None,
    decompressed: bool = False,
    uncoded: bool = False,
    translated: bool = False,
) -> list[tuple[bytes, bytes]]:
    """The headers of an attempt, as the provider's dialect has them. Host and framing are the
    transport's to add, but for a streamed body whose length the caller told (`content_length`).
    `uncoded` asks for an answer without a content coding, whatever the caller accepts; `translated`
    leaves out what only the caller's own API knows."""
    dropped = _REQUEST_DROPPED if payer is KeySource.CALLER and provider_key is None else _DROPPED_FOR_GATEWAY
    named = _named_by_connection(request.headers, request.fields)
    if named:
        dropped |= named
    if decompressed:
        dropped |= {b"content-encoding"}
    headers = [pair for pair in request.headers if pair[0] not in dropped and pair[0][:10] != _OURS]
    if translated:
        headers = [pair for pair in headers if not pair[0].startswith(_OF_ONE_API)]
        headers += dialect.headers
    else:
        headers += [pair for pair in dialect.headers if pair[0] not in request.fields]
    accepted = None if uncoded else _whole(b"accept-encoding", request.headers, request.fields)
    headers.append((b"accept-encoding", readable_codings(accepted)))
    if provider_key is not None:
        headers.append((dialect.credential_header, dialect.credential_prefix + provider_key.reveal().encode()))
    if content_length is not None:
        headers.append((b"content-length", content_length))
    return headers


def whole_field(request: InboundRequest, name: bytes) -> bytes | None:
    """A list field of a request, however many lines it came in; None: there is none."""
    return _whole(name, request.headers, request.fields)


def forwarded(request: InboundRequest) -> list[tuple[bytes, bytes]]:
    """What of a caller's headers reaches a provider when another key than the caller's own pays."""
    dropped = _DROPPED_FOR_GATEWAY | _named_by_connection(request.headers, request.fields)
    return [pair for pair in request.headers if pair[0] not in dropped and pair[0][:10] != _OURS]


def outbound_query(query: str, payer: KeySource) -> str:
    """The query of an attempt: as it came, less the caller's own keys where the gateway pays."""
    if payer is KeySource.CALLER or not query:
        return query
    kept = [part for part in query.split("&") if unquote_plus(part.partition("=")[0]).lower() not in _QUERY_KEYS]
    return "&".join(kept)


def response_headers(
    upstream: Sequence[tuple[bytes, bytes]], fields: Mapping[bytes, bytes], payer: KeySource, status: int
) -> list[tuple[bytes, bytes]]:
    """The upstream's headers that reach the caller; the gateway's own are added to them.
    `fields` holds the first value of each."""
    dropped = HOP_BY_HOP if payer is KeySource.CALLER else _DROPPED_FROM_GATEWAY
    if b"connection" in fields and (named := _named_by_connection(upstream, fields)):
        dropped |= named
    if status in (204, 304):
        dropped |= {b"content-length"}
    if _OURS in b"\n".join(fields):
        return [pair for pair in upstream if pair[0] not in dropped and pair[0][:10] != _OURS]
    if dropped.isdisjoint(fields):
        return list(upstream)
    if len(fields) != len(upstream):
        return [pair for pair in upstream if pair[0] not in dropped]
    kept = dict(upstream)  # none stands twice
    for name in dropped.intersection(fields):
        del kept[name]
    return list(kept.items())


def translated_headers(headers: Sequence[tuple[bytes, bytes]], shape: Shape) -> list[tuple[bytes, bytes]]:
    """The headers beside an answer that was translated for a caller of this shape: not those that
    describe the body, unless it is a stream of events; and the provider's id of the request by the
    name that the caller's SDK reads."""
    theirs = b"request-id" if shape is Shape.ANTHROPIC else b"x-request-id"
    kept = [pair for pair in headers if pair[0] not in _OF_ONE_BODY or pair[1][:17].lower() == _EVENT_STREAM]
    return [(theirs if name in _REQUEST_IDS else name, value) for name, value in kept]


@lru_cache(maxsize=256)
def readable_codings(accepted: bytes | None) -> bytes:
    """What is asked of the upstream: of the codings that the caller accepts, those of which
    the gateway can read a copy (RFC 9110, section 12.5.3). A caller that names none is
    answered without a coding by every provider, so that is what is asked for."""
    if accepted is None:
        return b"identity"
    wanted: list[bytes] = []
    for item in accepted.lower().split(b","):
        coding, _, parameters = item.strip().partition(b";")
        coding = coding.strip()
        if coding in _READABLE_CODINGS and not _ZERO_WEIGHT.search(parameters) and coding not in wanted:
            wanted.append(coding)
    return b", ".join(wanted) or b"identity"


def _named_by_connection(headers: Sequence[tuple[bytes, bytes]], fields: Mapping[bytes, bytes]) -> frozenset[bytes]:
    connection = _whole(b"connection", headers, fields)
    return frozenset() if connection is None else _names(connection)


def _whole(name: bytes, headers: Sequence[tuple[bytes, bytes]], fields: Mapping[bytes, bytes]) -> bytes | None:
    """A list field's value; given in several lines, it is their sum (RFC 9110, section 5.3)."""
    if len(fields) == len(headers):
        return fields.get(name)
    return b",".join(value for known, value in headers if known == name) or fields.get(name)


@lru_cache(maxsize=256)
def _names(connection: bytes) -> frozenset[bytes]:
    """What a Connection field makes hop-by-hop that is not so already. A sender may name any
    field, but not the ones that say what the body is."""
    named = frozenset(token.strip().lower() for token in connection.split(b","))
    return named - HOP_BY_HOP - {b"content-type", b"content-encoding"}
