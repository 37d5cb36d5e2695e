"""A tenant that was put at run time: its record, and what the gateway makes of it.

Pure. A tenant that stands in the file has no record; where both name one, the file's holds.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeGuard, TypeVar

from proxy.core import jsonio
from proxy.core.consent import Consent
from proxy.core.tenant import require_tenant_id
from proxy.settings.caching import EVENTS_PER_S_MAX, TTL_S_MAX, CacheMode, CachePolicy, CacheShare, in_words
from proxy.settings.model import DEFAULT_PLAN, NoCeiling, OnUnsupported, StreamUsage, TenantSettings

Choice = TypeVar("Choice", bound=StrEnum)
Default = TypeVar("Default")


@dataclass(frozen=True, slots=True)
class TenantRecord:
    """What is stored of a tenant. Instants are milliseconds since the Unix epoch."""

    id: str
    created_at_ms: int
    updated_at_ms: int
    plan: str = DEFAULT_PLAN
    timezone: str = "UTC"
    no_ceiling: NoCeiling = NoCeiling.AUTO
    stream_usage: StreamUsage = StreamUsage.AUTO
    on_unsupported: OnUnsupported = OnUnsupported.REFUSE
    fallback: Consent = Consent.NONE
    residency: frozenset[str] | None = None
    zero_retention: bool = False
    allow_unmetered: bool = False
    count_own_key: bool = False
    cache: CachePolicy | None = None


def settings_of(record: TenantRecord) -> TenantSettings:
    """What holds for the tenant, as if it stood in the file."""
    return TenantSettings(
        id=record.id,
        plan=record.plan,
        timezone=record.timezone,
        no_ceiling=record.no_ceiling,
        stream_usage=record.stream_usage,
        on_unsupported=record.on_unsupported,
        fallback=record.fallback,
        residency=record.residency,
        zero_retention=record.zero_retention,
        allow_unmetered=record.allow_unmetered,
        count_own_key=record.count_own_key,
        cache=record.cache,
    )


def encode(record: TenantRecord) -> bytes:
    """The record as the stores keep it: one JSON object."""
    return jsonio.encode(
        {
            "id": require_tenant_id(record.id),
            "created_at_ms": record.created_at_ms,
            "updated_at_ms": record.updated_at_ms,
            "plan": record.plan,
            "timezone": record.timezone,
            "no_ceiling": str(record.no_ceiling),
            "stream_usage": str(record.stream_usage),
            "on_unsupported": str(record.on_unsupported),
            "fallback": str(record.fallback),
            "residency": None if record.residency is None else sorted(record.residency),
            "zero_retention": record.zero_retention,
            "allow_unmetered": record.allow_unmetered,
            "count_own_key": record.count_own_key,
            "cache": in_words(record.cache),
        }
    )


def decode(data: bytes) -> TenantRecord:
    """The record behind stored bytes. Fields that a later release added are passed over.

    A value that only a later release knows becomes the default, which keeps every cap and loses nothing silently.
    """
    fields = jsonio.parse(data)
    residency = fields.get("residency")
    return TenantRecord(
        id=fields["id"],
        created_at_ms=fields["created_at_ms"],
        updated_at_ms=fields["updated_at_ms"],
        plan=fields.get("plan", DEFAULT_PLAN),
        timezone=fields.get("timezone", "UTC"),
        no_ceiling=_choice(NoCeiling, fields.get("no_ceiling"), NoCeiling.AUTO),
        stream_usage=_choice(StreamUsage, fields.get("stream_usage"), StreamUsage.AUTO),
        on_unsupported=_choice(OnUnsupported, fields.get("on_unsupported"), OnUnsupported.REFUSE),
        fallback=_choice(Consent, fields.get("fallback"), Consent.NONE),
        residency=None if residency is None else frozenset(residency),
        zero_retention=fields.get("zero_retention", False),
        allow_unmetered=fields.get("allow_unmetered", False),
        count_own_key=fields.get("count_own_key", False),
        cache=_policy(fields.get("cache")),
    )


def _policy(stored: object) -> CachePolicy | None:
    """None where nothing is said. What only a later release knows is off: nothing is kept by what is not understood."""
    if stored is None:
        return None
    if not isinstance(stored, dict):
        return CachePolicy(CacheMode.OFF)
    mode, share = _choice(CacheMode, stored.get("mode"), None), _choice(CacheShare, stored.get("share"), None)
    ttl_s, events_per_s = stored.get("ttl_s"), stored.get("events_per_s")
    is_paced = events_per_s is None or _is_count(events_per_s, EVENTS_PER_S_MAX)
    if mode is None or share is None or not _is_count(ttl_s, TTL_S_MAX) or not is_paced:
        return CachePolicy(CacheMode.OFF)
    return CachePolicy(mode, ttl_s, share, events_per_s)


def _is_count(value: object, maximum: int) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= maximum


def _choice(choices: type[Choice], text: object, otherwise: Default) -> Choice | Default:
    return next((choice for choice in choices if choice.value == text), otherwise)
