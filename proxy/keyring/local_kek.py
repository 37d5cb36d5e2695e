"""A KEK on this machine, from a file or the environment: for one machine, or where there is no KMS.

Whoever can read the KEK and the store can read every provider key. A wrapped data key is, byte by byte:

    4   magic "TWLK"    1   format, 1    12  nonce    32 + 16   ciphertext and tag

with the encryption context and the KEK's name authenticated with it.
"""

import logging
import secrets
from pathlib import Path
from typing import Final

from proxy.adapters.secret_file import load_or_make, secret_bytes
from proxy.core.errors import ProviderKeyUnreadable
from proxy.core.secret import Secret
from proxy.core.unreadable import UnreadableReason
from proxy.keyring import aead
from proxy.keyring.dek import DEK_BYTES, Dek, EncryptionContext, WrappedDek, canonical, canonical_context

MAGIC: Final = b"TWLK"
FORMAT: Final = 1

_HEAD: Final = MAGIC + bytes((FORMAT,))
_LABEL: Final = b"tollway wrapped data key"
_NONCE_END: Final = len(_HEAD) + aead.WRAP_NONCE_BYTES
_WRAPPED_BYTES: Final = _NONCE_END + DEK_BYTES + aead.TAG_BYTES

_log = logging.getLogger("tollway.keyring")


class LocalKek:
    """32 bytes that wrap data keys with AES-256-GCM."""

    __slots__ = ("_raw", "kek_id")

    def __init__(self, secret: Secret) -> None:
        """Take the KEK: base64 of 32 bytes.

        Raises:
            ValueError: something else. The message does not show it.
        """
        self._raw = secret_bytes(secret, "A local KEK")
        self.kek_id = f"local:{aead.kek_name(self._raw)}"

    async def generate(self, context: EncryptionContext) -> tuple[Dek, WrappedDek]:
        dek = Dek(secrets.token_bytes(DEK_BYTES))
        return dek, await self.wrap(dek, context)

    async def generate_wrapped(self, context: EncryptionContext) -> WrappedDek:
        return (await self.generate(context))[1]

    async def wrap(self, dek: Dek, context: EncryptionContext) -> WrappedDek:
        nonce = secrets.token_bytes(aead.WRAP_NONCE_BYTES)
        return WrappedDek(self.kek_id, _HEAD + nonce + aead.wrap(self._raw, nonce, dek, self._aad(context)))

    async def unwrap(self, wrapped: WrappedDek, context: EncryptionContext) -> Dek:
        data = wrapped.ciphertext
        if len(data) != _WRAPPED_BYTES or not data.startswith(_HEAD):
            raise ProviderKeyUnreadable(UnreadableReason.DEK_REFUSED)
        try:
            return aead.unwrap(self._raw, data[len(_HEAD) : _NONCE_END], data[_NONCE_END:], self._aad(context))
        except aead.NotAuthentic:
            raise ProviderKeyUnreadable(UnreadableReason.DEK_REFUSED) from None

    async def rewrap(self, _wrapped: WrappedDek, _context: EncryptionContext) -> None:
        """Another local KEK's bytes are not here, so nothing can be rewrapped unseen."""
        return

    async def connect(self) -> None:
        """It is ready."""

    def close(self) -> None:
        """It holds nothing that has to be let go."""

    def _aad(self, context: EncryptionContext) -> bytes:
        return canonical(_LABEL, _HEAD, self.kek_id.encode(), canonical_context(context))


def load_or_make_kek(path: Path) -> Secret:
    """The KEK in a file, as base64 of 32 bytes; made where there is none. Blocks on the disk: call it at start.

    Raises:
        OSError: the file cannot be made or read.
        ValueError: it holds something else than a KEK.
    """
    found = load_or_make(path)
    try:
        secret_bytes(found.text, "A local KEK")
    except ValueError as error:
        raise ValueError(
            f"{path}: {error} Restore it from a backup: stored provider keys cannot be opened without it."
        ) from None
    if found.is_new:
        _log.warning(
            "made %s, the KEK under which the provider keys that tenants store are sealed. Back it up, apart from the "
            "state store: without it they are lost, and whoever has both can read them. For more than one machine, "
            "use a KMS.",
            path,
        )
    return found.text
