"""The nouns that every room shares: who calls, what for, where it goes, what it used."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from proxy.core.errors import GatewayError
from proxy.core.secret import Secret

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]
"""Header fields in order of arrival, names in lower case."""


class KeySource(StrEnum):
    """Whose provider key paid."""

    GATEWAY = "gateway"
    TENANT = "tenant"
    CALLER = "caller"


class UsageSource(StrEnum):
    """How far a usage figure can be trusted."""

    EXACT = "exact"
    ESTIMATED = "estimated"
    WORST_CASE = "worst_case"


@dataclass(frozen=True, slots=True)
class Caller:
    """A tenant plus the virtual key, user and feature that it came with."""

    tenant_id: str
    user: str | None = None
    feature: str | None = None
    virtual_key_id: str | None = None
    allowed_models: frozenset[str] | None = None  # None: every model
    provider_token: Secret | None = None  # the caller's own provider key (passthrough)


@dataclass(slots=True)
class InboundRequest:
    """One request as it came off the wire, before its body.

    `path` is the target's path as sent (still percent-encoded), less the mount's root path;
    `endpoint_path` is what follows `/v1` in it, and `segments` the parts of that between
    slashes, each decoded once. `headers` is a snapshot, names in lower case.
    """

    method: str
    path: str
    endpoint_path: str
    segments: tuple[str, ...]
    query: str
    headers: Headers
    peer: str | None  # the client's address; None on a Unix socket
    fault: GatewayError | None = None  # why the target cannot be served, if it cannot

    @property
    def has_body(self) -> bool:
        """True where the framing announces a body (RFC 9112, section 6)."""
        length = self.header(b"content-length")
        return (length is not None and length != b"0") or self.header(b"transfer-encoding") is not None

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header, by its name in lower case."""
        for known, value in self.headers:
            if known == name:
                return value
        return None


@dataclass(frozen=True, slots=True)
class Deployment:
    """One place to send to. Without a model: the provider itself, for paths that name none."""

    provider: str
    model: str | None

    @property
    def label(self) -> str:
        """What rows, metrics and `x-tollway-model` call it."""
        return self.provider if self.model is None else f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class Usage:
    """What a provider says that a call used, in tokens. Cached tokens are part of the input,
    reasoning tokens part of the output, whatever the provider's own convention."""

    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer of the gateway's own."""

    status: int
    body: bytes
    headers: Headers = ()
    content_type: bytes = b"application/json"


@dataclass(frozen=True, slots=True)
class Call:
    """What the caller asks for: the endpoint, and the body's fields that decide."""

    model_alias: str | None = None
    stream: bool = False
    body: bytes | None = field(default=None, repr=False)  # as sent; None: streamed, or there is none
    text: bytes | None = field(default=None, repr=False)  # the body, decompressed, where it is a JSON object
    document: Mapping[str, Any] | None = field(default=None, repr=False)  # `text`, parsed
