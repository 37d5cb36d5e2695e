"""The keyring of the process that administers: the one that its calls are served with, or one made on demand.

What only wipes goes without one: a tenant can be shredded while its KEK is away, broken or gone.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.administration.refusals import KeyringMissing
from proxy.keyring.record import ProviderKeyRecord
from proxy.keyring.store import KeyringStore

if TYPE_CHECKING:  # it brings the cipher, which a command that needs none should not wait for
    from proxy.keyring.keyring import Keyring


class KeyringAtHand:
    """A keyring, and the store behind it. Belongs to one event loop."""

    __slots__ = ("_keyring", "_make", "store")

    def __init__(
        self,
        store: KeyringStore,
        keyring: "Keyring | None" = None,
        make: "Callable[[], Keyring | None] | None" = None,
    ) -> None:
        """
        Args:
            keyring: the process's own, which remembers what it opened.
            make: makes one where there is none; None where the configuration names no KEK.
        """
        self.store = store
        self._keyring = keyring
        self._make = make

    def required(self) -> "Keyring":
        """The keyring, for what seals, opens or rewraps. May read a file, or make it at first use.

        Raises:
            KeyringMissing: no KEK is configured.
            OSError, ValueError: a KEK's file cannot be made or read.
        """
        if self._keyring is None and self._make is not None:
            self._keyring = self._make()
        if self._keyring is None:
            raise KeyringMissing
        return self._keyring

    async def delete(self, tenant_id: str, provider: str, user: str | None, at_ms: int) -> ProviderKeyRecord | None:
        """Wipe a provider key. As `Keyring.delete`."""
        return await (self._keyring or self.store).delete(tenant_id, provider, user, at_ms)

    async def shred(self, tenant_id: str, at_ms: int) -> int:
        """Make all that a tenant stored unreadable. As `Keyring.shred`."""
        return await (self._keyring or self.store).shred(tenant_id, at_ms)

    async def stop(self) -> None:
        """Let go of a keyring that was made here."""
        if self._keyring is not None and self._make is not None:
            await self._keyring.stop()
