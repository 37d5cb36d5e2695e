"""Every change stands in the ledger before it is made.

The row says who is about to do what. It is written first, and a change whose row cannot be
written is not made; so whatever was changed has a row. A crash, or a store that goes away,
between the two leaves a row whose change was not made, or not wholly: the caller had no answer,
looks, and asks again, which is another change with a row of its own. The other order would leave
changes that nobody can see.
"""

import logging
import secrets
from collections.abc import Callable
from typing import Final, TypeAlias

from proxy.core.clock import Clock
from proxy.core.instants import exact_instant
from proxy.ledger.change import AUDIT, Action, encode_change
from proxy.ledger.store import LedgerStore

_log = logging.getLogger("tollway.administration")

_RANDOM_BYTES: Final = 10

OnChanged: TypeAlias = Callable[[str, str | None], object]
"""Hears of each change once it is made: the tenant, and the virtual key where it is about one."""


def ignore(_tenant_id: str, _virtual_key_id: str | None) -> None:
    """For a process that remembers nothing of the store."""


class Changes:
    """What one person or program changes."""

    __slots__ = ("_actor", "_clock", "_config_version", "_ledger", "_on_changed", "ids")

    def __init__(
        self, ledger: LedgerStore, clock: Clock, config_version: str, actor: str, on_changed: OnChanged = ignore
    ) -> None:
        """`actor` is an admin token's name, or `cli:` and the system's user."""
        self._ledger = ledger
        self._clock = clock
        self._config_version = config_version
        self._actor = actor
        self._on_changed = on_changed
        self.ids: list[str] = []  # the rows that were written, in order

    async def announce(
        self, tenant_id: str, action: Action, details: dict[str, object], virtual_key_id: str | None = None
    ) -> None:
        """Write what is about to be done. `details` are plain values, and hold no secret.

        Raises:
            StateUnavailable: it may not be written. Do not make the change.
        """
        now_ms = self._clock.now_ms()
        # As runs' ids: they sort by time. 80 random bits.
        change_id = f"audit_{now_ms:012x}{secrets.token_hex(_RANDOM_BYTES)}"
        row = encode_change(
            {
                "run_id": change_id,
                "started_at": exact_instant(now_ms),
                "kind": AUDIT,
                "tenant": tenant_id,
                "virtual_key_id": virtual_key_id,
                "config_version": self._config_version,
                "actor": self._actor,
                "action": str(action),
                "details": details,
            }
        )
        await self._ledger.append([row])
        self.ids.append(change_id)
        _log.info("%s: %s of %s by %s", change_id, action, tenant_id, self._actor)

    def made(self, tenant_id: str, virtual_key_id: str | None = None) -> None:
        """Say that the change is made."""
        self._on_changed(tenant_id, virtual_key_id)
