"""`[tenants.ID]`: a tenant that stands in the file."""

from collections.abc import Callable

from proxy.core.consent import Consent
from proxy.settings.cache import read_policy
from proxy.settings.model import NoCeiling, OnUnsupported, StreamUsage, TenantSettings
from proxy.settings.reader import Reader
from proxy.settings.values import parse_region, parse_time_zone, parse_webhook_url


def read_tenant(tenant_id: str, at: Reader, parse_plan: Callable[[str], str]) -> TenantSettings:
    """One tenant's table. `parse_plan` takes the name of a plan that is there."""
    default = TenantSettings(tenant_id)
    residency = at.texts("residency", parse_region, None)
    tenant = TenantSettings(
        id=tenant_id,
        plan=at.text("plan", parse_plan, default.plan),
        timezone=at.text("timezone", parse_time_zone, default.timezone),
        no_ceiling=at.choice("no_ceiling", NoCeiling, default.no_ceiling),
        stream_usage=at.choice("stream_usage", StreamUsage, default.stream_usage),
        on_unsupported=at.choice("on_unsupported", OnUnsupported, default.on_unsupported),
        fallback=at.choice("fallback", Consent, default.fallback),
        residency=None if residency is None else frozenset(residency),
        zero_retention=at.flag("zero_retention", default.zero_retention),
        allow_unmetered=at.flag("allow_unmetered", default.allow_unmetered),
        count_own_key=at.flag("count_own_key", default.count_own_key),
        soft_cap_webhook=at.text("soft_cap_webhook", parse_webhook_url, None),
        cache=read_policy(at),
    )
    at.close()
    return tenant
