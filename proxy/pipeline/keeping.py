"""Which answer is kept, and what of it.

Only what ended well, whole, and as its endpoint answers: an error, a stream without its last event, a page that some
proxy put in the provider's place would be given to everybody who asks the same, for as long as it is kept.
"""

from typing import Any, Final

from proxy.cache.entry import CacheEntry, EntryHead
from proxy.core import jsonio
from proxy.core.consent import Tier
from proxy.core.errors import InvalidJson
from proxy.core.types import KeySource
from proxy.dialects.openai import is_json
from proxy.dialects.opening import Opening
from proxy.dialects.usage_remover import is_event_stream
from proxy.pipeline.attempt import Attempt
from proxy.pipeline.cache_use import AnswerCopy
from proxy.pipeline.charging import charge
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.payment import Payment

# What a whole answer of an endpoint holds, whatever else: a member, and its type.
_HOLDS: Final[dict[str, tuple[str, type]]] = {
    "chat_completions": ("choices", list),
    "completions": ("choices", list),
    "responses": ("output", list),
    "messages": ("content", list),
    "messages_count_tokens": ("input_tokens", int),
    "embeddings": ("data", list),
    "moderations": ("results", list),
}
_PLAIN: Final = (None, b"", b"identity")


def why_not_kept(exchange: Exchange, copy: AnswerCopy, payment: Payment) -> str | None:
    """Why an answer is not kept, as a metric label; None: it may be."""
    attempt, ticket = exchange.attempt, exchange.ticket
    if exchange.error is not None or exchange.status != 200 or attempt is None or attempt.upstream_status != 200:
        return "failed"
    if copy.is_given_up:
        return "too_long"
    if not copy.pieces or not _is_whole(exchange, attempt, copy):
        return "not_whole"
    if attempt.candidate.tier is not Tier.SAME:
        return "fallback"  # it would outlive the outage that it was made for
    if ticket is not None and ticket.inserted_ceiling is not None:
        return "shortened"
    if attempt.key_source is not KeySource.GATEWAY:
        provider = exchange.snapshot.providers[attempt.deployment.provider].settings
        if payment.may_be_users_own(exchange, provider):
            return "users_own_key"  # who paid for it alone has agreed to it
    return None


def entry_of(exchange: Exchange, copy: AnswerCopy, check: bytes) -> CacheEntry:
    """What is kept of an answer that may be."""
    attempt = exchange.attempt
    assert attempt is not None
    tap = attempt.usage_tap
    return CacheEntry(
        EntryHead(exchange.call.model_alias or "", exchange.started_at_ms, charge(exchange).cost_nusd),
        check,
        copy.headers,
        b"".join(copy.pieces),
        attempt.deployment.label,
        attempt.deployment.provider,
        tap.served_model if tap is not None and tap.served_model is not None else attempt.deployment.model,
        str(attempt.key_source),
    )


def _is_whole(exchange: Exchange, attempt: Attempt, copy: AnswerCopy) -> bool:
    tap, fields = attempt.usage_tap, dict(copy.headers)
    content_type, coding = fields.get(b"content-type"), fields.get(b"content-encoding")
    if tap is None or attempt.opening is not Opening.ANSWER:
        return False
    tap.close()
    if tap.saw_error:
        return False
    if is_event_stream(content_type, coding):
        return exchange.call.stream and tap.saw_end is True
    holds = _HOLDS.get(exchange.operation.name)
    if holds is None:  # sound
        return content_type is not None and content_type[:6].lower() == b"audio/"
    if exchange.call.stream and exchange.operation.stream_end is not None:
        return False  # a stream was asked for
    if not is_json(content_type):
        return False
    if coding in _PLAIN:
        return _holds(b"".join(copy.pieces), *holds)
    return tap.usage is not None  # its bytes are encoded; what was read of a copy is its report


def _holds(body: bytes, name: str, kind: type) -> bool:
    try:
        document: Any = jsonio.parse(body)
    except InvalidJson:
        return False
    return isinstance(document, dict) and isinstance(document.get(name), kind) and not document.get("error")
