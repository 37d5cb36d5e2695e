"""The admin API's tenants: `/admin/v1/tenants`."""

from proxy.administration.descriptions import described_tenant
from proxy.administration.tenants import KnownTenant
from proxy.core.admin_errors import TenantNotFound
from proxy.core.consent import Consent
from proxy.core.errors import InvalidParameter
from proxy.core.instants import instant
from proxy.core.tenant import TENANT_ID_RULE, is_tenant_id
from proxy.edge.admin_pages import asked_page, listing, on_page
from proxy.edge.admin_request import Asked, Fields
from proxy.edge.admin_said import Said
from proxy.settings.caching import EVENTS_PER_S_MAX, TTL_S_MAX, CacheMode, CachePolicy, CacheShare
from proxy.settings.model import NoCeiling, OnUnsupported, StreamUsage
from proxy.settings.values import Mismatch, parse_region, parse_time_zone

_SETTINGS = (
    *("plan", "timezone", "no_ceiling", "stream_usage", "on_unsupported", "fallback", "residency"),
    *("zero_retention", "allow_unmetered", "count_own_key", "cache"),
)
_CACHE = ("mode", "ttl_s", "share", "events_per_s")


async def list_tenants(asked: Asked) -> Said:
    """Those in force, by id."""
    page = asked_page(asked.query("limit", "after"))
    known = [one for one in await asked.desk.tenants.list() if one.is_in_force]
    shown = await asked.desk.tenants.with_ends(on_page(known, _id, page))
    described = {one.tenant.id: _described(one) for one in shown}
    return Said(200, listing(known, _id, lambda one: described[one.tenant.id], page))


async def retrieve_tenant(asked: Asked) -> Said:
    """What is in force for one."""
    asked.query()
    return Said(200, _described(await asked.desk.tenants.find(existing_tenant(asked))))


async def put_tenant(asked: Asked) -> Said:
    """Add one, or change one: what is not sent stays as it is."""
    asked.query()
    tenant_id = asked.in_path("tenant_id")
    if not is_tenant_id(tenant_id):
        raise InvalidParameter(TENANT_ID_RULE, param="tenant_id")
    fields = await asked.body(*_SETTINGS)
    sent = {
        "plan": fields.text("plan"),
        "timezone": fields.parsed("timezone", parse_time_zone),
        "no_ceiling": fields.choice("no_ceiling", NoCeiling),
        "stream_usage": fields.choice("stream_usage", StreamUsage),
        "on_unsupported": fields.choice("on_unsupported", OnUnsupported),
        "fallback": fields.choice("fallback", Consent),
        "zero_retention": fields.flag("zero_retention"),
        "allow_unmetered": fields.flag("allow_unmetered"),
        "count_own_key": fields.flag("count_own_key"),
    }
    given: dict[str, object] = {name: value for name, value in sent.items() if value is not None}
    if fields.has("residency"):
        given["residency"] = _residency(fields)
    if fields.has("cache"):
        given["cache"] = _cache(fields)
    put = await asked.desk.tenants.put(tenant_id, given)
    return Said(201 if put.is_new else 200, {**_described(put.known), "notes": list(put.notes)})


async def delete_tenant(asked: Asked) -> Said:
    """Forget one; with `force=true`, end its keys first, and wait for no call."""
    force = asked.query("force").parsed("force", _flag) or False
    deleted = await asked.desk.tenants.delete(existing_tenant(asked), force=force)
    document = {"object": "tenant.deleted", "id": deleted.tenant_id, "deleted": True}
    return Said(
        200, {**document, "revoked": list(deleted.revoked), "wiped": list(deleted.wiped), "in_file": deleted.is_in_file}
    )


async def shred_tenant(asked: Asked) -> Said:
    """Make all that one stored unreadable, for ever. The body repeats its id."""
    asked.query()
    fields = await asked.body("id")
    fields.required("id")
    tenant_id = existing_tenant(asked)
    if fields.text("id") != tenant_id:
        message = "`id` has to repeat the id in the path: this cannot be undone. Nothing was done."
        raise InvalidParameter(message, param="id")
    done = await asked.desk.shredding.shred(tenant_id)
    document = {"object": "tenant.shredded", "id": tenant_id, "shredded_at": instant(done.shredded_at_ms)}
    return Said(200, {**document, "revoked": list(done.revoked), "notes": list(done.notes)})


def _residency(fields: Fields) -> frozenset[str] | None:
    """At least one region; null: any."""
    if fields.is_null("residency"):
        return None
    regions = fields.texts("residency", parse_region)
    if not regions:
        raise InvalidParameter("`residency` names at least one region; null stands for any.", param="residency")
    return frozenset(regions)


def _cache(fields: Fields) -> CachePolicy | None:
    """The whole of it, as in the file: what is not sent within is the default. Null: nothing is said."""
    sent = None if fields.is_null("cache") else fields.table("cache", _CACHE)
    if sent is None:
        return None
    sent.required("mode")
    default = CachePolicy()
    # An answer says null of it, so that it can be sent back as it came.
    at_once = sent.is_null("events_per_s")
    return CachePolicy(
        mode=sent.choice("mode", CacheMode) or default.mode,
        ttl_s=sent.integer("ttl_s", 1, TTL_S_MAX) or default.ttl_s,
        share=sent.choice("share", CacheShare) or default.share,
        events_per_s=None if at_once else sent.integer("events_per_s", 1, EVENTS_PER_S_MAX),
    )


def existing_tenant(asked: Asked) -> str:
    """The id in the path. Raises TenantNotFound for what can be none."""
    tenant_id = asked.in_path("tenant_id")
    if not is_tenant_id(tenant_id):
        raise TenantNotFound(f"No tenant can have this id. {TENANT_ID_RULE}", param="tenant_id")
    return tenant_id


def _id(known: KnownTenant) -> str:
    return known.tenant.id


def _described(known: KnownTenant) -> dict[str, object]:
    return {"object": "tenant", **described_tenant(known)}


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise Mismatch("true or false")
    return text == "true"
