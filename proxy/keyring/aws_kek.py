"""A KEK in AWS KMS. It never leaves KMS; what it wrapped opens only under the same encryption context."""

import logging
from collections.abc import Awaitable
from typing import Final, TypeVar

from proxy.adapters.kms import KmsAway, KmsDoor, KmsRefused, Refusal, region_of
from proxy.core.errors import KeyringUnavailable, ProviderKeyUnreadable
from proxy.core.unreadable import UnreadableReason
from proxy.keyring.dek import DEK_BYTES, Dek, EncryptionContext, WrappedDek

ARN_PREFIX: Final = "arn:"
RETRY_AFTER_MS: Final = 1_000

_REASONS: Final = {
    Refusal.CIPHERTEXT: UnreadableReason.DEK_REFUSED,
    Refusal.MISSING: UnreadableReason.KEK_MISSING,
    Refusal.DISABLED: UnreadableReason.KEK_DISABLED,
    Refusal.PENDING_DELETION: UnreadableReason.KEK_PENDING_DELETION,
    Refusal.DENIED: UnreadableReason.KEK_DENIED,
    Refusal.OTHER: UnreadableReason.KEK_FAULT,
}

Answer = TypeVar("Answer")

_log = logging.getLogger("tollway.keyring")


class AwsKek:
    """One key in AWS KMS, by its ARN."""

    __slots__ = ("_door", "kek_id")

    def __init__(self, arn: str, door: KmsDoor) -> None:
        self.kek_id = arn
        self._door = door

    async def generate(self, context: EncryptionContext) -> tuple[Dek, WrappedDek]:
        made = await _answer(self._door.generate(context))
        return _dek(made.plaintext), WrappedDek(self.kek_id, made.ciphertext)

    async def generate_wrapped(self, context: EncryptionContext) -> WrappedDek:
        return WrappedDek(self.kek_id, await _answer(self._door.generate_wrapped(context)))

    async def wrap(self, dek: Dek, context: EncryptionContext) -> WrappedDek:
        return WrappedDek(self.kek_id, await _answer(self._door.encrypt(dek.reveal(), context)))

    async def unwrap(self, wrapped: WrappedDek, context: EncryptionContext) -> Dek:
        return _dek(await _answer(self._door.decrypt(wrapped.ciphertext, context)))

    async def rewrap(self, wrapped: WrappedDek, context: EncryptionContext) -> WrappedDek | None:
        source = wrapped.kek_id
        if not source.startswith(ARN_PREFIX) or region_of(source) != region_of(self.kek_id):
            return None  # KMS re-encrypts within a region
        return WrappedDek(self.kek_id, await _answer(self._door.re_encrypt(wrapped.ciphertext, source, context)))

    async def connect(self) -> None:
        try:
            await self._door.connect()
        except KmsAway as away:
            _log.warning("KMS is away: %s", away)

    def close(self) -> None:
        self._door.close()


def unavailable(cause: str | None = None) -> KeyringUnavailable:
    """What a caller is told while the KMS is away; its operators hear the cause, where it is known."""
    message = "The KMS that opens stored provider keys did not answer in time. Try again shortly."
    return KeyringUnavailable(message, retry_after_ms=RETRY_AFTER_MS, cause=cause)


async def _answer(asked: Awaitable[Answer]) -> Answer:
    try:
        return await asked
    except KmsRefused as refused:
        _log.error("KMS refused: %s", refused)
        raise ProviderKeyUnreadable(_REASONS[refused.refusal], cause=str(refused)) from None
    except KmsAway as away:
        _log.warning("KMS is away: %s", away)
        raise unavailable(f"KMS cannot be asked: {away}") from None


def _dek(raw: bytes) -> Dek:
    if len(raw) != DEK_BYTES:
        raise ProviderKeyUnreadable(UnreadableReason.DEK_REFUSED)
    return Dek(raw)
