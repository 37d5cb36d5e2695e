"""What the gateway itself says: its headers beside an answer, and the list of models."""

from functools import lru_cache
from typing import Any, Final

from proxy.admission.figures import remaining_hit_requests
from proxy.cache.entry import CacheEntry
from proxy.core import jsonio
from proxy.core.errors import ModelNotFound
from proxy.core.money import usd_text
from proxy.core.types import Answer, Headers
from proxy.dialects.openai import model_in_path
from proxy.dialects.usage_remover import is_event_stream
from proxy.pipeline.charging import charge
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.record import rfc3339
from proxy.pipeline.ticket import Ticket
from proxy.routing import listing

_KEPT_MAX: Final = 1_024


def own_headers(exchange: Exchange) -> list[tuple[bytes, bytes]]:
    """The headers that every answer carries, refusals too."""
    headers = [(b"x-tollway-run-id", exchange.run_id.encode()), exchange.snapshot.version_header]
    route = exchange.route
    if route is not None and route.rule is not None:
        headers.append((b"x-tollway-rule", route.rule.encode()))
    if exchange.withheld is not None:
        headers.append((b"x-tollway-fallback-available", exchange.withheld.value.encode()))
    return headers


def relay_headers(exchange: Exchange, *, is_whole: bool) -> list[tuple[bytes, bytes]]:
    """The headers beside a provider's answer; of one that is whole already, with what it cost."""
    attempt = exchange.attempt
    assert attempt is not None
    assert exchange.sent_at_us is not None
    assert exchange.first_byte_at_us is not None
    own_us = exchange.sent_at_us - exchange.accepted_at_us
    upstream_us = exchange.first_byte_at_us - exchange.sent_at_us
    timing = b"tollway;dur=%.3f, upstream;dur=%.3f" % (own_us / 1_000, upstream_us / 1_000)
    headers = [
        *own_headers(exchange),
        (b"x-tollway-model", _header_text(attempt.deployment.label)),
        (b"x-tollway-attempts", b"%d" % exchange.attempts),
        (b"server-timing", timing),
    ]
    if exchange.cache is not None:
        headers.append((b"x-tollway-cache", exchange.cache.result.value.encode()))
    if attempt.translation is not None:
        headers.append((b"x-tollway-translated", attempt.translation.name.encode()))
        if attempt.translation.dropped is not None:
            headers.append((b"x-tollway-dropped", attempt.translation.dropped.encode()))
    if is_whole and attempt.facts is not None:
        assert attempt.usage_tap is not None
        attempt.usage_tap.close()
        exchange.charge = charge(exchange)  # all of it has been heard
        cost_nusd = exchange.charge.cost_nusd
        if cost_nusd is not None:
            headers.append((b"x-tollway-cost-usd", usd_text(cost_nusd).encode()))
    ticket = exchange.ticket
    if ticket is not None and ticket.is_in_store:
        headers += _what_is_left(ticket)
    return headers


def replay_headers(exchange: Exchange, entry: CacheEntry, now_us: int) -> list[tuple[bytes, bytes]]:
    """The headers beside a kept answer, its own ones included."""
    use = exchange.cache
    assert use is not None
    assert use.hit is not None
    own_us = now_us - exchange.accepted_at_us
    headers = [  # an age: RFC 9111, section 5.1
        *_of_kept(entry.headers, len(entry.body), entry.deployment, use.saved_nusd),
        *own_headers(exchange),
        (b"age", b"%d" % (max(0, exchange.started_at_ms + own_us // 1_000 - entry.head.asked_at_ms) // 1_000)),
        (b"server-timing", b"tollway;dur=%.3f" % (own_us / 1_000)),
    ]
    requests = remaining_hit_requests(*use.hit)
    if requests is not None:
        headers.append((b"x-tollway-limit-remaining-requests", b"%d" % requests))
    return headers


@lru_cache(maxsize=_KEPT_MAX)
def _of_kept(kept: Headers, body_bytes: int, deployment: str, saved_nusd: int | None) -> Headers:
    """Of the headers beside a kept answer, those that are the same each time."""
    fields = dict(kept)
    headers = [
        *kept,
        (b"x-tollway-cache", b"hit"),
        (b"x-tollway-model", _header_text(deployment)),
        (b"x-tollway-attempts", b"0"),
        (b"x-tollway-cost-usd", b"0"),
    ]
    if not is_event_stream(fields.get(b"content-type"), fields.get(b"content-encoding")):
        headers.append((b"content-length", b"%d" % body_bytes))
    if saved_nusd is not None:
        headers.append((b"x-tollway-saved-usd", usd_text(saved_nusd).encode()))
    return tuple(headers)


def _what_is_left(ticket: Ticket) -> list[tuple[bytes, bytes]]:
    """How full the tightest cap is, and what the buckets still have, as of the admission."""
    headers: list[tuple[bytes, bytes]] = []
    requests, tokens, cap = ticket.left
    if cap is not None:
        headers.append((b"x-tollway-cap-used-pct", b"%d" % cap.used_pct))
        headers.append((b"x-tollway-cap", b"soft" if ticket.is_soft else b"ok"))
    if requests is not None:
        headers.append((b"x-tollway-limit-remaining-requests", b"%d" % requests))
    if tokens is not None:
        headers.append((b"x-tollway-limit-remaining-tokens", b"%d" % tokens))
    if ticket.inserted_ceiling is not None:
        headers.append((b"x-tollway-inserted-ceiling", b"%d" % ticket.inserted_ceiling))
    return headers


def list_models(exchange: Exchange) -> Answer | None:
    """The answer to GET /v1/models and /v1/models/{id}; None where the call is another, or
    asks for a model that only the default provider may know.

    Raises:
        ModelNotFound: the model is routed, but not for this caller.
    """
    operation, snapshot, caller = exchange.operation, exchange.snapshot, exchange.caller
    assert operation.gateway_served, "every other call goes to a provider"
    assert caller is not None, "only a caller who is known sees models"
    assert exchange.tenant is not None
    visible = snapshot.routes.visible_to(caller, exchange.tenant.plan)
    shape = _anthropic_shape if b"anthropic-version" in exchange.request.fields else _openai_shape
    if operation.name == "models":
        return Answer(200, jsonio.encode(shape(visible, None, snapshot.created_s)))
    alias = model_in_path(exchange.request.segments)
    if alias in visible:
        return Answer(200, jsonio.encode(shape(visible, alias, snapshot.created_s)))
    if snapshot.routes.is_routed(alias):
        message = (
            f"The model `{alias[:128]}` does not exist or you do not have access to it. GET /v1/models lists yours."
        )
        raise ModelNotFound(message, param="model")
    return None


def _openai_shape(visible: list[str], alias: str | None, created_s: int) -> dict[str, Any]:
    return listing.openai_list(visible, created_s) if alias is None else listing.openai_model(alias, created_s)


def _anthropic_shape(visible: list[str], alias: str | None, created_s: int) -> dict[str, Any]:
    created_at = rfc3339(created_s * 1_000)
    return listing.anthropic_list(visible, created_at) if alias is None else listing.anthropic_model(alias, created_at)


def _header_text(text: str) -> bytes:
    # A model's name may be any text; a header value may not (RFC 9110, section 5.5).
    return text.encode("ascii", "replace") if text.isprintable() else b"?"
