"""Which answer is kept, and what of it.

Only what ended well, whole, and as its endpoint answers: an error, a stream without its last event, a page that some
proxy put in the provider's place would be given to everybody who asks the same, for as long as it is kept.
"""

from typing import Final

from proxy.cache.entry import CacheEntry, EntryHead
from proxy.core.consent import Tier
from proxy.core.types import KeySource
from proxy.dialects.openai import is_json
from proxy.dialects.opening import Opening
from proxy.dialects.soundness import PLAIN_RATIO_MAX, is_document_of, is_sound_document, is_sound_stream
from proxy.dialects.usage_remover import is_event_stream
from proxy.pipeline.attempt import Attempt
from proxy.pipeline.cache_use import AnswerCopy
from proxy.pipeline.charging import charge
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.payment import Payment

# What takes more than a millisecond to look through is looked at beside the loop.
_LONG_BYTES: Final = 65_536


def why_not_kept(exchange: Exchange, copy: AnswerCopy, payment: Payment) -> str | None:
    """Why an answer is not kept, as a metric label; None: it may be, if it `is_sound`, where it `is_long`."""
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


def is_long(copy: AnswerCopy) -> bool:
    """True where it is to be looked at beside the loop."""
    is_encoded = any(name == b"content-encoding" for name, _ in copy.headers)
    return copy.size_bytes * (PLAIN_RATIO_MAX if is_encoded else 1) > _LONG_BYTES


def is_sound(operation_name: str, copy: AnswerCopy, body: bytes) -> bool:
    """True where the body itself speaks of nothing that went wrong. Looks at all of it."""
    fields = dict(copy.headers)
    content_type, coding = fields.get(b"content-type"), fields.get(b"content-encoding")
    if is_event_stream(content_type, coding):
        return is_sound_stream(body)
    return not is_document_of(operation_name) or is_sound_document(operation_name, body, coding, copy.bytes_max)


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
    if tap is None or attempt.opening is not Opening.ANSWER or len(fields) != len(copy.headers):
        return False
    tap.close()
    if tap.saw_error:
        return False
    if is_event_stream(content_type, coding):
        if not exchange.call.stream or tap.saw_end is not True:
            return False
    elif not is_document_of(exchange.operation.name):  # sound: nothing in it says where it ends
        return copy.is_delimited and content_type is not None and content_type[:6].lower() == b"audio/"
    elif (exchange.call.stream and exchange.operation.stream_end is not None) or not is_json(content_type):
        return False  # a stream was asked for, or it is the page of somebody else
    return is_long(copy) or is_sound(exchange.operation.name, copy, b"".join(copy.pieces))
