"""The admin API's virtual keys: `/admin/v1/virtual-keys`."""

from typing import Final

from proxy.administration.descriptions import described_virtual_key
from proxy.administration.refusals import VirtualKeyUnknown
from proxy.administration.virtual_keys import Wanted
from proxy.core.consent import Consent
from proxy.core.limits import CAPS, COUNTS_MAX, ScopeLimits, limits_of
from proxy.edge.admin_pages import asked_page, listing
from proxy.edge.admin_request import Asked, Fields
from proxy.edge.admin_said import Said
from proxy.identity.virtual_key import VirtualKey
from proxy.settings.values import parse_model_name, parse_tenant_id

_EXPIRES_S_MAX: Final = 36_500 * 86_400  # a hundred years, as the command has it
_ID_CHARS_MAX: Final = 64
_LIMITS: Final = (*COUNTS_MAX, *CAPS.values())


async def issue_virtual_key(asked: Asked) -> Said:
    """Make one. Its token is in this answer and nowhere else, ever."""
    asked.query()
    fields = await asked.body("tenant", "user", "feature", "models", "expires_in_s", "limits", "fallback")
    fields.required("tenant")
    models = fields.texts("models", parse_model_name)
    expires_in_s = fields.integer("expires_in_s", 1, _EXPIRES_S_MAX)
    wanted = Wanted(
        tenant_id=fields.parsed("tenant", parse_tenant_id) or "",
        user=fields.text("user"),
        feature=fields.text("feature"),
        allowed_models=None if models is None else frozenset(models),
        expires_in_ms=None if expires_in_s is None else expires_in_s * 1_000,
        limits=_limits(fields.table("limits", _LIMITS)),
        fallback=fields.choice("fallback", Consent),
    )
    issued = await asked.desk.virtual_keys.issue(wanted)
    document = _described(issued.virtual_key, asked.now_ms)
    return Said(201, {**document, "token": issued.token.reveal(), "notes": list(issued.notes)})


async def list_virtual_keys(asked: Asked) -> Said:
    """All tenants', or one's, by age."""
    query = asked.query("tenant", "limit", "after")
    page, tenant_id = asked_page(query), query.parsed("tenant", parse_tenant_id)
    virtual_keys = await asked.desk.virtual_keys.list(tenant_id)
    return Said(200, listing(virtual_keys, lambda one: one.id, lambda one: _described(one, asked.now_ms), page))


async def retrieve_virtual_key(asked: Asked) -> Said:
    """One, whether it still works or not."""
    asked.query()
    return Said(200, _described(await asked.desk.virtual_keys.find(_id(asked)), asked.now_ms))


async def revoke_virtual_key(asked: Asked) -> Said:
    """End one for ever. Again is the same answer."""
    asked.query()
    await asked.body()
    return Said(200, _described(await asked.desk.virtual_keys.revoke(_id(asked)), asked.now_ms))


def _id(asked: Asked) -> str:
    virtual_key_id = asked.in_path("virtual_key_id")
    if not (virtual_key_id.isascii() and virtual_key_id.isprintable() and len(virtual_key_id) <= _ID_CHARS_MAX):
        raise VirtualKeyUnknown(virtual_key_id)
    return virtual_key_id


def _limits(fields: Fields | None) -> ScopeLimits | None:
    if fields is None:
        return None
    values = {name: fields.integer(name, 1, maximum) for name, maximum in COUNTS_MAX.items()}
    values |= {name: fields.dollars(called) for name, called in CAPS.items()}
    return limits_of({name: value for name, value in values.items() if value is not None})


def _described(virtual_key: VirtualKey, now_ms: int) -> dict[str, object]:
    return {"object": "virtual_key", **described_virtual_key(virtual_key, now_ms)}
