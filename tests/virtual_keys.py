"""What tests of virtual keys share."""

from collections.abc import Sequence

from proxy.identity.store import VirtualKeyStore
from proxy.identity.virtual_key import VirtualKey


async def by_digest(virtual_keys: VirtualKeyStore, digests: Sequence[str]) -> VirtualKey | None:
    """The key alone that one of these digests finds."""
    found = await virtual_keys.find(digests)
    return None if found is None else found.virtual_key
