"""The admin API's stored provider keys: `/admin/v1/tenants/{tenant_id}/provider-keys`, and `/admin/v1/keyring`."""

from proxy.administration.descriptions import described_keyring, described_provider_key
from proxy.administration.provider_keys import StoredProviderKey
from proxy.administration.refusals import ProviderKeyUnknown
from proxy.core.errors import InvalidParameter
from proxy.core.secret import Secret
from proxy.core.tenant import TENANT_ID_RULE, is_tenant_id
from proxy.edge.admin_pages import asked_page, listing
from proxy.edge.admin_request import Asked, Fields
from proxy.edge.admin_said import Said
from proxy.edge.admin_tenants import existing_tenant
from proxy.keyring.record import ProviderKeyRecord, ProviderKeyState


async def list_provider_keys(asked: Asked) -> Said:
    """A tenant's, the oldest first."""
    page = asked_page(asked.query("limit", "after"))
    stored = await asked.desk.provider_keys.list(existing_tenant(asked))
    return Said(200, listing(stored, lambda one: one.newest.credential_id, _described, page))


async def put_provider_key(asked: Asked) -> Said:
    """Store one; the next version where there is one already."""
    asked.query()
    tenant_id = asked.in_path("tenant_id")
    if not is_tenant_id(tenant_id):
        raise InvalidParameter(TENANT_ID_RULE, param="tenant_id")
    fields = await asked.body("provider", "user", "secret")
    fields.required("provider")
    secret, provider = _secret(fields), fields.text("provider") or ""
    stored = await asked.desk.provider_keys.put(tenant_id, provider, fields.text("user"), secret)
    return _changed(stored, 201 if stored.newest.version == 1 else 200)


async def retrieve_provider_key(asked: Asked) -> Said:
    """What is known of one, whether it is still used or not."""
    asked.query()
    return Said(200, _described(await _found(asked)))


async def rotate_provider_key(asked: Asked) -> Said:
    """Put another secret in the place of one."""
    asked.query()
    secret = _secret(await asked.body("secret"))
    newest = await _active(asked)
    return _changed(await asked.desk.provider_keys.rotate(newest.tenant_id, newest.provider, newest.user, secret), 200)


async def delete_provider_key(asked: Asked) -> Said:
    """Wipe one."""
    asked.query()
    newest = await _active(asked)
    ended = await asked.desk.provider_keys.delete(newest.tenant_id, newest.provider, newest.user)
    return Said(200, _described(ended))


async def retrieve_keyring(asked: Asked) -> Said:
    """What is sealed by what, and what is due."""
    asked.query()
    return Said(200, {"object": "keyring", **described_keyring(await asked.desk.keyring.status())})


async def _found(asked: Asked) -> StoredProviderKey:
    return await asked.desk.provider_keys.find(existing_tenant(asked), asked.in_path("provider_key_id"))


async def _active(asked: Asked) -> ProviderKeyRecord:
    """The one with this id, while it is used: another may stand in its place by now."""
    newest = (await _found(asked)).newest
    if newest.state is not ProviderKeyState.ACTIVE:
        raise ProviderKeyUnknown(newest.tenant_id)
    return newest


def _secret(fields: Fields) -> Secret:
    fields.required("secret")
    return Secret(fields.text("secret") or "")


def _changed(stored: StoredProviderKey, status: int) -> Said:
    return Said(status, {**_described(stored), "notes": list(stored.notes)})


def _described(stored: StoredProviderKey) -> dict[str, object]:
    return {"object": "provider_key", **described_provider_key(stored)}
