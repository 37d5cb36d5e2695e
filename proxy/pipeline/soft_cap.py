"""Knows how full caps are, and says that one is nearly used up: once for each window to people, at each call to
the metrics."""

import logging
from typing import Final

from proxy.admission.figures import CapUse
from proxy.admission.terms import WindowKind
from proxy.core.money import usd_text
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.refusals import scope_kind
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.webhook import Webhook

_log = logging.getLogger("tollway.caps")

_SAID_MAX: Final = 10_000


class SoftCaps:
    """Remembers in which windows it was said; a process that starts says it again."""

    def __init__(self, metrics: Metrics, webhook: Webhook) -> None:
        self._metrics = metrics
        self._webhook = webhook
        self._said: dict[tuple[str, str, WindowKind], int] = {}  # tenant, scope, window → its start
        self._used_pct: dict[str, int] = {}  # by tenant, as of its last call here

    def used_pct(self, tenant_id: str) -> int:
        """How far the tenant's tightest cap was filled at its last call in this process; 0: none is known."""
        return self._used_pct.get(tenant_id, 0)

    def heard(self, tenant_id: str, used_pct: int) -> None:
        """A call was admitted; its tightest cap is filled so far."""
        if len(self._used_pct) >= _SAID_MAX and tenant_id not in self._used_pct:
            self._used_pct.clear()
        self._used_pct[tenant_id] = used_pct

    def note(self, exchange: Exchange, use: CapUse) -> None:
        """A call was admitted while a cap is filled beyond its plan's `soft_cap_pct`."""
        self._metrics.soft_cap_passed(scope_kind(use.scope))
        tenant = exchange.tenant
        assert tenant is not None
        what = (tenant.id, use.scope, use.kind)
        if self._said.get(what) == use.window_start_ms:
            return
        if len(self._said) >= _SAID_MAX:
            self._said.clear()
        self._said[what] = use.window_start_ms
        _log.warning(
            "tenant %s: the cap of %s for %s, $%s, is filled to %d %%",
            tenant.id,
            use.scope,
            use.kind,
            usd_text(use.cap_nusd),
            use.used_pct,
        )
        if tenant.soft_cap_webhook is not None:
            self._webhook.post(tenant.soft_cap_webhook, _notice(tenant.id, use))


def _notice(tenant_id: str, use: CapUse) -> dict[str, object]:
    return {
        "event": "soft_cap",
        "tenant": tenant_id,
        "scope": use.scope,
        "window": str(use.kind),
        "window_start_ms": use.window_start_ms,
        "cap_nusd": use.cap_nusd,
        "used_nusd": use.used_nusd,
        "used_pct": use.used_pct,
    }
