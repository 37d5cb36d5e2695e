"""Tenants, virtual keys and provider keys as programs see them, in the commands' JSON and the API's alike."""

from proxy.administration.keyring_rotations import KeyringStatus
from proxy.administration.provider_keys import StoredProviderKey
from proxy.administration.routing import KnownDeployment, KnownModel
from proxy.administration.tenants import KnownTenant
from proxy.core.instants import instant
from proxy.core.limits import CAPS, ScopeLimits, written
from proxy.core.money import usd_text
from proxy.identity.virtual_key import VirtualKey
from proxy.keyring.record import ProviderKeyRecord
from proxy.settings.caching import in_words


def described_tenant(known: KnownTenant) -> dict[str, object]:
    """What holds for a tenant, and where that is from."""
    tenant, record = known.tenant, known.record
    return {
        "id": tenant.id,
        "plan": tenant.plan,
        "timezone": tenant.timezone,
        "no_ceiling": str(tenant.no_ceiling),
        "stream_usage": str(tenant.stream_usage),
        "on_unsupported": str(tenant.on_unsupported),
        "fallback": str(tenant.fallback),
        "residency": None if tenant.residency is None else sorted(tenant.residency),
        "zero_retention": tenant.zero_retention,
        "allow_unmetered": tenant.allow_unmetered,
        "count_own_key": tenant.count_own_key,
        "cache": in_words(tenant.cache),
        "from": "file" if record is None else "store",
        "created_at": None if record is None else instant(record.created_at_ms),
        "updated_at": None if record is None else instant(record.updated_at_ms),
        "shredded_at": None if known.shredded_at_ms is None else instant(known.shredded_at_ms),
    }


def described_deployment(known: KnownDeployment) -> dict[str, object]:
    """Where models are served, and how it does."""
    switch = known.switch
    return {
        "id": known.label,
        "models": list(known.models),
        "drained": known.is_drained,
        "drained_in_file": known.is_drained_in_file,
        "changed_by": None if switch is None else switch.by,
        "changed_at": None if switch is None else instant(switch.at_ms),
        "health": known.status.get("health"),
        "breaker": known.status.get("breaker"),
        "throttled_ms": known.status.get("throttled_ms"),
        "in_flight": known.status.get("in_flight"),
    }


def described_model(known: KnownModel) -> dict[str, object]:
    """An alias, and what serves in its place."""
    switch = known.switch
    return {
        "id": known.alias,
        "switched_to": known.switched_to,
        "switched_to_in_file": known.switched_to_in_file,
        "changed_by": None if switch is None else switch.by,
        "changed_at": None if switch is None else instant(switch.at_ms),
    }


def described_virtual_key(virtual_key: VirtualKey, now_ms: int) -> dict[str, object]:
    """What a virtual key stands for. Its token is not there: nobody keeps it."""
    models = virtual_key.allowed_models
    return {
        "id": virtual_key.id,
        "tenant": virtual_key.tenant_id,
        "state": str(virtual_key.state(now_ms)),
        "user": virtual_key.user,
        "feature": virtual_key.feature,
        "models": None if models is None else sorted(models),
        "limits": limits_in_words(virtual_key.limits),
        "fallback": None if virtual_key.fallback is None else str(virtual_key.fallback),
        "created_at": instant(virtual_key.created_at_ms),
        "expires_at": None if virtual_key.expires_at_ms is None else instant(virtual_key.expires_at_ms),
        "revoked_at": None if virtual_key.revoked_at_ms is None else instant(virtual_key.revoked_at_ms),
        "last_four": virtual_key.last_four,
    }


def described_provider_key(stored: StoredProviderKey) -> dict[str, object]:
    """What is known of a provider key: everything but the secret."""
    newest = stored.newest
    return {
        "id": newest.credential_id,
        "tenant": newest.tenant_id,
        "provider": newest.provider,
        "user": newest.user,
        "origin": newest.origin,
        **_described_version(newest),
        "past": [_described_version(record) for record in stored.past],
    }


def described_keyring(status: KeyringStatus) -> dict[str, object]:
    """What is sealed by what."""
    return {
        "keks": [
            {"id": kek.kek_id, "place": kek.place, "current": kek.is_current, "data_keys": kek.data_keys}
            for kek in status.keks
        ],
        "tenants": status.tenants,
        "data_keys": status.data_keys,
        "oldest_data_key_at": None if status.oldest_at_ms is None else instant(status.oldest_at_ms),
        "rotate_after_days": status.rotate_after_days,
        "due": status.due,
    }


def _described_version(record: ProviderKeyRecord) -> dict[str, object]:
    return {
        "version": record.version,
        "state": str(record.state),
        "fingerprint": record.fingerprint,
        "last_four": record.last_four or None,
        "created_at": instant(record.created_at_ms),
        "ended_at": None if record.ended_at_ms is None else instant(record.ended_at_ms),
    }


def limits_in_words(limits: ScopeLimits | None) -> dict[str, int | str] | None:
    """Counts as numbers, dollars as exact decimals in text, each called as in the configuration."""
    if limits is None:
        return None
    return {CAPS.get(name, name): usd_text(value) if name in CAPS else value for name, value in written(limits).items()}
