"""From a request's headers, and the key they hold, to a `Caller`.

Pure. Invariant: where a key says who calls, headers may add what it leaves open (user,
feature) and never change what it says.

Decided here: a credential given twice with different values, or in another scheme than Bearer,
is refused as an invalid key (401), whatever the mode that reads it: two readers could pick
differently. One of the gateway's own headers given twice with different values is 400.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from proxy.core.errors import (
    IdentityConflict,
    InvalidApiKey,
    InvalidHeader,
    TenantNotAllowed,
)
from proxy.core.label import LABEL_BYTES_MAX, is_label
from proxy.core.secret import Secret
from proxy.core.tenant import TENANT_ID_RULE, is_tenant_id
from proxy.core.types import Caller, Headers
from proxy.identity.virtual_key import VirtualKey
from proxy.settings.model import Network

TENANT_HEADER = b"x-tollway-tenant"
USER_HEADER = b"x-tollway-user"
FEATURE_HEADER = b"x-tollway-feature"
PROMPT_HEADER = b"x-tollway-prompt"

_CREDENTIAL_HEADERS = frozenset({b"authorization", b"x-api-key", b"api-key"})
_USER_FIELDS = frozenset({"safety_identifier", "user"})
_CLAIM_HEADERS = frozenset({TENANT_HEADER, USER_HEADER, FEATURE_HEADER})
_READ_HEADERS = _CREDENTIAL_HEADERS | _CLAIM_HEADERS


@dataclass(slots=True)
class Claims:
    """What the headers say about the caller, still to be believed or not.

    `raw_credentials` are the credential headers as sent; they are read only in the modes
    that use them (`presented_token`).
    """

    tenant_id: str | None = None
    user: str | None = None
    feature: str | None = None
    raw_credentials: list[tuple[bytes, bytes]] | None = None

    def __repr__(self) -> str:  # the credentials are secrets
        return f"Claims(tenant_id={self.tenant_id!r}, user={self.user!r}, feature={self.feature!r})"


class Prompt(NamedTuple):
    """Which prompt the caller says it used: `x-tollway-prompt: name@version`."""

    prompt_id: str
    prompt_version: str


def read_claims(headers: Headers) -> Claims:
    """Pick the caller's headers out, in one pass. An empty header is as good as none.

    Raises:
        InvalidHeader: a tenant, user or feature that none can have, or one given twice.
    """
    claims = Claims()
    for name, value in headers:
        if name not in _READ_HEADERS or not value:
            continue
        if name in _CREDENTIAL_HEADERS:
            if claims.raw_credentials is None:
                claims.raw_credentials = []
            claims.raw_credentials.append((name, value))
        elif name == TENANT_HEADER:
            claims.tenant_id = _once(name, claims.tenant_id, _tenant_id(value))
        elif name == USER_HEADER:
            claims.user = _once(name, claims.user, _label(name, value))
        else:
            claims.feature = _once(name, claims.feature, _label(name, value))
    return claims


def presented_token(claims: Claims) -> str | None:
    """The one token in `authorization: Bearer …`, `x-api-key` and `api-key`; None without any.

    Raises:
        InvalidApiKey: two that differ, or an Authorization header that is not Bearer.
    """
    token: bytes | None = None
    for name, value in claims.raw_credentials or ():
        found = _bearer(value) if name == b"authorization" else value.strip()
        if not found:
            continue
        if token is not None and token != found:
            raise InvalidApiKey("Two different API keys were sent. Send one, in `Authorization: Bearer …`.")
        token = found
    return None if token is None else token.decode("latin-1")


def caller_of_virtual_key(virtual_key: VirtualKey, claims: Claims, base: Caller) -> Caller:
    """Who calls with this key; `base` is the caller that the key alone makes.

    Raises:
        TenantNotAllowed: the tenant header names another tenant than the key's.
        IdentityConflict: a header names another user or feature than the key is bound to.
    """
    _refuse_other_tenant(virtual_key.tenant_id, claims)
    if claims.user is None and claims.feature is None:
        return base
    return base._replace(
        user=_narrow("user", virtual_key.user, claims.user),
        feature=_narrow("feature", virtual_key.feature, claims.feature),
    )


def base_caller(virtual_key: VirtualKey) -> Caller:
    """The caller that a virtual key makes by itself."""
    return Caller(
        tenant_id=virtual_key.tenant_id,
        user=virtual_key.user,
        feature=virtual_key.feature,
        virtual_key_id=virtual_key.id,
        allowed_models=virtual_key.allowed_models,
        virtual_key_limits=virtual_key.limits,
        fallback=virtual_key.fallback,
    )


def caller_of_passthrough(claims: Claims, default_tenant: str) -> Caller:
    """Who calls with its own provider key, or without one. Nobody has verified it.

    Raises:
        InvalidApiKey: see `presented_token`.
        TenantNotAllowed: the tenant header names another tenant than the default one.
    """
    token = presented_token(claims)
    _refuse_other_tenant(default_tenant, claims)
    provider_token = None if token is None else Secret(token)
    return Caller(default_tenant, claims.user, claims.feature, provider_token=provider_token)


def caller_of_trusted_headers(claims: Claims) -> Caller:
    """Who the headers of a trusted peer name. A token beside them is not looked at.

    Raises:
        InvalidHeader: they name no tenant.
    """
    if claims.tenant_id is None:
        raise InvalidHeader(f"Say whose call this is, in the header `x-tollway-tenant`. {TENANT_ID_RULE}")
    return Caller(claims.tenant_id, claims.user, claims.feature)


def is_trusted_peer(peer: str | None, networks: Iterable[Network]) -> bool:
    """True for a Unix socket, for loopback, and for the listed networks."""
    if peer is None:
        return True
    try:
        address = ip_address(peer)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or any(address in network for network in networks)


def is_foreign_page(origin: bytes) -> bool:
    """True where a browser says that a page of another machine asks, or one that hides where it is from.

    A page may post to any address of its visitor's machine, under its own name or (DNS rebinding)
    one that it has made to mean this machine. Pages from here, and what is installed here (an
    editor, an extension: other schemes), may ask.
    """
    scheme, _, rest = origin.strip().lower().decode("latin-1").partition("://")
    if scheme not in ("http", "https"):
        return scheme == "null"
    host = rest[1:].partition("]")[0] if rest.startswith("[") else rest.partition(":")[0]
    return host != "localhost" and not host.endswith(".localhost") and not _is_loopback(host)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def with_body_user(caller: Caller, document: Mapping[str, object]) -> Caller:
    """Add the user that the body names, `safety_identifier` before `user`, where none is known.

    The fields are the provider's to judge: what cannot be a user's name here (another type, more
    than 128 bytes, control characters) is passed over and refused to nobody.
    """
    if caller.user is not None or _USER_FIELDS.isdisjoint(document):
        return caller
    for field in ("safety_identifier", "user"):
        value = document.get(field)
        if isinstance(value, str) and is_label(value):
            return caller._replace(user=value)
    return caller


def parse_prompt(value: bytes) -> Prompt:
    """Read `name@version`; the last `@` parts them, and each is at most 128 bytes.

    Raises:
        InvalidHeader: anything else.
    """
    try:
        prompt_id, at, prompt_version = value.decode("utf-8").strip().rpartition("@")
    except UnicodeDecodeError:
        at = ""
    if not at or not is_label(prompt_id) or not is_label(prompt_version):
        raise InvalidHeader("`x-tollway-prompt` is `name@version`, each at most 128 bytes of UTF-8.")
    return Prompt(prompt_id, prompt_version)


def _refuse_other_tenant(tenant_id: str, claims: Claims) -> None:
    if claims.tenant_id is not None and claims.tenant_id != tenant_id:
        raise TenantNotAllowed(
            f"`x-tollway-tenant` names {claims.tenant_id}, and this key belongs to another tenant. "
            "Leave the header out, or use a key of that tenant."
        )


def _narrow(what: str, bound: str | None, claimed: str | None) -> str | None:
    if claimed is None or claimed == bound:
        return bound
    if bound is not None:
        raise IdentityConflict(f"`x-tollway-{what}` names another {what} than the one this key is bound to.")
    return claimed


def _bearer(value: bytes) -> bytes:
    scheme, _, token = value.strip().partition(b" ")
    if scheme.lower() != b"bearer":
        raise InvalidApiKey("The Authorization header is not `Bearer …`. Send your key as `Authorization: Bearer …`.")
    return token.strip()


def _tenant_id(value: bytes) -> str:
    tenant_id = value.decode("latin-1")
    if not is_tenant_id(tenant_id):
        raise InvalidHeader(f"`x-tollway-tenant` names no possible tenant. {TENANT_ID_RULE}")
    return tenant_id


def _label(name: bytes, value: bytes) -> str:
    try:
        label = value.decode("utf-8")
    except UnicodeDecodeError:
        label = ""
    if not is_label(label):
        rule = f"at most {LABEL_BYTES_MAX} bytes of UTF-8, without control characters"
        raise InvalidHeader(f"`{name.decode('ascii')}` must be {rule}.")
    return label


def _once(name: bytes, before: str | None, now: str) -> str:
    if before is not None and before != now:
        raise InvalidHeader(f"`{name.decode('ascii')}` was sent twice with different values. Send it once.")
    return now
