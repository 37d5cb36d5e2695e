"""Key-encryption keys: what wraps data keys. The first is current and wraps; the others only unwrap.

A KEK never leaves its place (a KMS, a file, the environment), and every wrap is bound to an encryption context.
Each failure is one of two: ProviderKeyUnreadable, with a reason that asking again does not change, or
KeyringUnavailable.
"""

from collections.abc import Sequence
from typing import Protocol

from proxy.core.errors import ProviderKeyUnreadable
from proxy.core.unreadable import UnreadableReason
from proxy.keyring.dek import Dek, EncryptionContext, WrappedDek


class Kek(Protocol):
    """One key-encryption key. Every method raises ProviderKeyUnreadable where it refuses, for good, and
    KeyringUnavailable where it does not answer in time."""

    @property
    def kek_id(self) -> str:
        """Its name, in ASCII: the same for as long as it is the same KEK, and no other's."""
        ...

    async def generate(self, context: EncryptionContext) -> tuple[Dek, WrappedDek]:
        """A new data key, in the clear and wrapped."""
        ...

    async def generate_wrapped(self, context: EncryptionContext) -> WrappedDek:
        """A new data key that nobody here has seen. A KMS may allow this and no unwrapping."""
        ...

    async def wrap(self, dek: Dek, context: EncryptionContext) -> WrappedDek:
        """Wrap a data key that another KEK wrapped until now."""
        ...

    async def unwrap(self, wrapped: WrappedDek, context: EncryptionContext) -> Dek:
        """The data key that this KEK wrapped under this context."""
        ...

    async def rewrap(self, wrapped: WrappedDek, context: EncryptionContext) -> WrappedDek | None:
        """What an older KEK of the same place wrapped, wrapped by this one, without anybody seeing it.
        None: the older one is elsewhere, so it has to be unwrapped there and wrapped here."""
        ...

    async def connect(self) -> None:
        """Make ready what takes long the first time. Raises nothing: the first call will."""
        ...

    def close(self) -> None:
        """Let go of threads and connections. Safe to repeat."""
        ...


class Keks:
    """All configured KEKs."""

    __slots__ = ("_by_id", "current")

    def __init__(self, keks: Sequence[Kek]) -> None:
        """`keks`: the current one first; at least one."""
        self.current = keks[0]
        self._by_id = {kek.kek_id: kek for kek in reversed(keks)}

    async def unwrap(self, wrapped: WrappedDek, context: EncryptionContext) -> Dek:
        """The data key, by whichever KEK wrapped it. Raises as `Kek`."""
        return await self._wrapper_of(wrapped).unwrap(wrapped, context)

    async def rewrap(self, wrapped: WrappedDek, context: EncryptionContext) -> WrappedDek:
        """The same data key, wrapped by the current KEK. Raises as `Kek`."""
        older = self._wrapper_of(wrapped)
        if older is self.current:
            return wrapped
        rewrapped = await self.current.rewrap(wrapped, context)
        if rewrapped is not None:
            return rewrapped
        return await self.current.wrap(await older.unwrap(wrapped, context), context)

    async def connect(self) -> None:
        """Make them ready. Raises nothing."""
        for kek in self._by_id.values():
            await kek.connect()

    def close(self) -> None:
        """Let go of what they hold. Safe to repeat."""
        for kek in self._by_id.values():
            kek.close()

    def _wrapper_of(self, wrapped: WrappedDek) -> Kek:
        kek = self._by_id.get(wrapped.kek_id)
        if kek is None:
            raise ProviderKeyUnreadable(UnreadableReason.KEK_UNKNOWN)
        return kek
