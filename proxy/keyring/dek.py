"""Data keys: what seals provider keys and kept answers, in the clear and wrapped. Two types, so that no line can
mistake them.

Pure. Invariant: the bytes of a DEK leave the object through `reveal` alone, which only `keyring.aead` calls.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NoReturn, TypeAlias

DEK_BYTES: Final = 32
PURPOSE: Final = "tollway/provider-keys"

EncryptionContext: TypeAlias = Mapping[str, str]
"""The authenticated public mapping that a KEK wraps under: who owns a data key, and what it is for."""


def context_of(tenant_id: str) -> EncryptionContext:
    """The context of a tenant's data keys."""
    return {"tenant": tenant_id, "purpose": PURPOSE}


def canonical(*fields: bytes) -> bytes:
    """Fields with their lengths before them, so that no two lists of fields have the same bytes."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in (b"%d" % len(fields), *fields))


def canonical_context(context: EncryptionContext) -> bytes:
    """A context's AAD: its pairs in the order of their names."""
    return canonical(*(part.encode() for pair in sorted(context.items()) for part in pair))


class Dek:
    """A data key in the clear: 32 bytes that no log, repr or pickle may hold."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        """Take the bytes.

        Raises:
            ValueError: not 32 bytes.
        """
        if len(raw) != DEK_BYTES:
            raise ValueError(f"a data key has {DEK_BYTES} bytes")
        self._raw = raw

    def reveal(self) -> bytes:
        """Give the bytes themselves, to the cipher and to whatever wraps them."""
        return self._raw

    def __repr__(self) -> str:
        return "Dek(…)"

    def __format__(self, _spec: str) -> str:
        return "Dek(…)"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a Dek is not pickled: it would leave the process in the clear")


@dataclass(frozen=True, slots=True)
class WrappedDek:
    """A data key as a KEK wrapped it: useless without that KEK."""

    kek_id: str
    ciphertext: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class StoredDek:
    """A tenant's wrapped data key, as the stores keep it."""

    tenant_id: str
    id: str
    wrapped: WrappedDek
    created_at_ms: int
