"""The virtual key: the text that a caller presents, its digest, and what it stands for.

Pure. A token is `twk_`, 43 base62 digits (256 random bits) and 6 more: the CRC-32 (zlib's)
of those 43 ASCII characters, as GitHub's tokens have one, so that a scanner can tell a leaked
token from noise without asking anybody. Stored is only an HMAC-SHA-256 of it under a pepper.
"""

import hmac
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple
from zlib import crc32

from proxy.core import jsonio
from proxy.core.consent import Consent
from proxy.core.errors import InvalidParameter
from proxy.core.label import LABEL_BYTES_MAX, is_label
from proxy.core.limits import ScopeLimits, limits_of, with_burst, written
from proxy.core.secret import Secret
from proxy.core.tenant import TENANT_ID_RULE, is_tenant_id

TOKEN_PREFIX = "twk_"
TOKEN_CHARACTERS = 53
LAST_CHARACTERS = 4  # of a token, which may be shown
ID_PREFIX = "vk_"
TOKEN_RANDOM_BYTES = 32
ID_RANDOM_BYTES = 16
ALLOWED_MODELS_MAX = 1_000

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_DIGITS = 43  # 62**43 > 2**256
_CHECKSUM_DIGITS = 6  # 62**6 > 2**32
_ID_DIGITS = 22  # 62**22 > 2**128
_CHECKSUM_START = len(TOKEN_PREFIX) + _RANDOM_DIGITS

UNKNOWN_PEPPER: Final = ""
"""In the place of a pepper's fingerprint: nobody has noted it. The next use of the key shows which one it is."""

_FINGERPRINT_DIGITS = 12
_FINGERPRINT_OF: Final = b"tollway pepper fingerprint"  # no token: those begin with `twk_`


class PepperedDigest(NamedTuple):
    """A token's digest, and the fingerprint of the pepper that it is under."""

    digest: str
    pepper: str


class VirtualKeyState(StrEnum):
    """Whether a virtual key still opens the door."""

    ACTIVE = "active"
    REVOKED = "revoked"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class VirtualKey:
    """What a token stands for. Instants are milliseconds since the Unix epoch."""

    id: str
    tenant_id: str
    created_at_ms: int
    last_four: str  # of the token, for people who hold several
    user: str | None = None
    feature: str | None = None
    allowed_models: frozenset[str] | None = None  # None: every model
    expires_at_ms: int | None = None
    revoked_at_ms: int | None = None
    limits: ScopeLimits | None = None  # its own; where it has none of a kind, its plan's hold
    fallback: Consent | None = None  # its own, in the place of its tenant's

    def state(self, now_ms: int) -> VirtualKeyState:
        """A key that is both revoked and expired counts as revoked."""
        if self.revoked_at_ms is not None:
            return VirtualKeyState.REVOKED
        if self.expires_at_ms is not None and now_ms >= self.expires_at_ms:
            return VirtualKeyState.EXPIRED
        return VirtualKeyState.ACTIVE


def mint(random_bytes: bytes) -> Secret:
    """Make a token of 32 random bytes. It is shown once, to whoever asked for it, and never stored."""
    assert len(random_bytes) == TOKEN_RANDOM_BYTES
    digits = _base62(int.from_bytes(random_bytes, "big"), _RANDOM_DIGITS)
    return Secret(TOKEN_PREFIX + digits + _checksum(digits))


def mint_id(random_bytes: bytes) -> str:
    """Make the public name of a virtual key, of 16 random bytes."""
    assert len(random_bytes) == ID_RANDOM_BYTES
    return ID_PREFIX + _base62(int.from_bytes(random_bytes, "big"), _ID_DIGITS)


def is_well_formed(token: str) -> bool:
    """True where prefix, length, alphabet and checksum fit: it may have been issued."""
    if len(token) != TOKEN_CHARACTERS or not token.startswith(TOKEN_PREFIX):
        return False
    digits = token[len(TOKEN_PREFIX) :]
    if not (digits.isascii() and digits.isalnum()):
        return False
    return _checksum(token[len(TOKEN_PREFIX) : _CHECKSUM_START]) == token[_CHECKSUM_START:]


def digest(token: str, pepper: bytes) -> str:
    """HMAC-SHA-256 of a well-formed token, in hex: what the stores know it by."""
    return hmac.digest(pepper, token.encode("ascii"), "sha256").hex()


def pepper_fingerprint(pepper: bytes) -> str:
    """What a pepper is called where it may not be shown: 12 hex digits, from which nobody gets to its 256 bits."""
    return hmac.digest(pepper, _FINGERPRINT_OF, "sha256").hex()[:_FINGERPRINT_DIGITS]


def issue(
    *,
    tenant_id: str,
    token: Secret,
    virtual_key_id: str,
    now_ms: int,
    user: str | None = None,
    feature: str | None = None,
    allowed_models: frozenset[str] | None = None,
    expires_at_ms: int | None = None,
    limits: ScopeLimits | None = None,
    fallback: Consent | None = None,
) -> VirtualKey:
    """The record of a token that was just minted.

    Raises:
        InvalidParameter: a name that could never match a request, or an expiry in the past.
    """
    if not is_tenant_id(tenant_id):
        raise InvalidParameter(TENANT_ID_RULE, param="tenant")
    for param, label in (("user", user), ("feature", feature)):
        if label is not None and not is_label(label):
            message = (
                f"The {param} is empty, longer than {LABEL_BYTES_MAX} bytes of UTF-8, or holds control characters."
            )
            raise InvalidParameter(message, param=param)
    if allowed_models is not None and not 1 <= len(allowed_models) <= ALLOWED_MODELS_MAX:
        message = f"Name 1 to {ALLOWED_MODELS_MAX} models, or leave the list out to allow every model."
        raise InvalidParameter(message, param="models")
    if expires_at_ms is not None and expires_at_ms <= now_ms:
        raise InvalidParameter("The expiry is not in the future.", param="expires")
    return VirtualKey(
        id=virtual_key_id,
        tenant_id=tenant_id,
        created_at_ms=now_ms,
        last_four=token.reveal()[-LAST_CHARACTERS:],
        user=user,
        feature=feature,
        allowed_models=allowed_models,
        expires_at_ms=expires_at_ms,
        limits=None if limits is None else with_burst(limits),
        fallback=fallback,
    )


def encode(virtual_key: VirtualKey) -> bytes:
    """The record as the stores keep it: one JSON object. Names that are None are left out."""
    allowed_models = virtual_key.allowed_models
    fields = {
        "id": virtual_key.id,
        "tenant_id": virtual_key.tenant_id,
        "created_at_ms": virtual_key.created_at_ms,
        "last_four": virtual_key.last_four,
        "user": virtual_key.user,
        "feature": virtual_key.feature,
        "allowed_models": None if allowed_models is None else sorted(allowed_models),
        "expires_at_ms": virtual_key.expires_at_ms,
        "revoked_at_ms": virtual_key.revoked_at_ms,
        "limits": None if virtual_key.limits is None else written(virtual_key.limits),
        "fallback": None if virtual_key.fallback is None else str(virtual_key.fallback),
    }
    return jsonio.encode({name: value for name, value in fields.items() if value is not None})


def decode(data: bytes) -> VirtualKey:
    """The record behind stored bytes. Fields that a later release added are passed over."""
    fields = jsonio.parse(data)
    allowed_models = fields.get("allowed_models")
    return VirtualKey(
        id=fields["id"],
        tenant_id=fields["tenant_id"],
        created_at_ms=fields["created_at_ms"],
        last_four=fields["last_four"],
        user=fields.get("user"),
        feature=fields.get("feature"),
        allowed_models=None if allowed_models is None else frozenset(allowed_models),
        expires_at_ms=fields.get("expires_at_ms"),
        revoked_at_ms=fields.get("revoked_at_ms"),
        limits=limits_of(fields.get("limits", {})),
        fallback=_consent(fields.get("fallback")),
    )


def _consent(text: object) -> Consent | None:
    """A consent that only a later release knows is none: nobody is served by what it has not agreed to."""
    if text is None:
        return None
    return next((consent for consent in Consent if consent.value == text), Consent.NONE)


def _checksum(digits: str) -> str:
    return _base62(crc32(digits.encode("ascii")), _CHECKSUM_DIGITS)


def _base62(number: int, digit_count: int) -> str:
    digits = []
    for _ in range(digit_count):
        number, digit = divmod(number, 62)
        digits.append(_BASE62[digit])
    assert number == 0
    return "".join(reversed(digits))
