"""The nouns that every room shares: who calls, what for, where it goes, what it used.

What every request makes is a named tuple: as immutable as a frozen dataclass, and made in a
fifth of the time.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from proxy.core.consent import Consent
from proxy.core.errors import GatewayError
from proxy.core.limits import ScopeLimits
from proxy.core.secret import Secret

Result = TypeVar("Result")

_WORKED_OUT_MAX: Final = 16

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


class Caller(NamedTuple):
    """A tenant plus the virtual key, user and feature that it came with."""

    tenant_id: str
    user: str | None = None
    feature: str | None = None
    virtual_key_id: str | None = None
    allowed_models: frozenset[str] | None = None  # None: every model
    provider_token: Secret | None = None  # the caller's own provider key (passthrough)
    virtual_key_limits: ScopeLimits | None = None  # the key's own, which stand in for its plan's
    fallback: Consent | None = None  # the key's own, which stands in for its tenant's


@dataclass(slots=True, eq=False)
class InboundRequest:
    """What a request's head says, and its body is not needed for.

    `path` is the target's path as sent (still percent-encoded), less the mount's root path;
    `endpoint_path` is what follows `/v1` in it, and `segments` the parts of that between
    slashes, each decoded once. `headers` is a snapshot, names in lower case, less the
    content-length; `fields` holds the first value of each.

    A client sends one head with call after call, so a connection may use one of these for many
    calls: nothing here depends on the body but that there is one (`has_body`).
    """

    method: str
    path: str
    endpoint_path: str
    segments: tuple[str, ...]
    query: str
    headers: Headers
    peer: str | None  # the client's address; None on a Unix socket
    has_body: bool = False  # the framing announces one (RFC 9112, section 6)
    model_of_path: str | None = None  # what Azure's form of a path names: `/openai/deployments/{this}/…`
    fault: GatewayError | None = None  # why the target cannot be served, if it cannot
    fields: Mapping[bytes, bytes] = field(init=False)
    _worked_out: dict[Hashable, Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.fields = dict(reversed(self.headers))

    def __repr__(self) -> str:  # the headers and the query hold the caller's credentials
        return f"InboundRequest({self.method!r}, {self.path!r})"

    def once(self, what: Hashable, work: Callable[[], Result]) -> Result:
        """The result of `work`, done once for this head and for all else that `what` names.

        What it raises is not kept: the next call works again.
        """
        known = self._worked_out
        result: Result | None = known.get(what)
        if result is None:
            if len(known) >= _WORKED_OUT_MAX:  # after some reloads of the configuration
                known.clear()
            result = known[what] = work()
        return result


class Deployment(NamedTuple):
    """One place to send to. Without a model: the provider itself, for paths that name none."""

    provider: str
    model: str | None

    @property
    def label(self) -> str:
        """What rows, metrics and `x-tollway-model` call it."""
        return self.provider if self.model is None else f"{self.provider}/{self.model}"


class Usage(NamedTuple):
    """What a provider says that a call used: all that a price can depend on.

    Whatever the provider's own convention: cached and cache-write tokens are part of the input,
    reasoning tokens part of the output, and so are audio and image tokens part of either.
    """

    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_long_tokens: int = 0  # of cache_write_tokens: kept for longer (Anthropic 1 h, OpenAI 12 h)
    audio_input_tokens: int = 0
    cached_audio_input_tokens: int = 0  # of audio_input_tokens and of cached_input_tokens
    image_input_tokens: int = 0
    cached_image_input_tokens: int = 0  # of image_input_tokens and of cached_input_tokens
    audio_output_tokens: int = 0
    image_output_tokens: int = 0
    images: int = 0  # pictures made, where they are sold by the piece
    audio_ms: int = 0  # sound heard, where it is sold by time
    characters: int = 0  # text spoken, where it is sold by letters
    tool_calls: tuple[tuple[str, int], ...] = ()  # the provider's own tools, by name, and how often each ran
    service_tier: str | None = None  # as the answer names it
    region: str | None = None  # where it was answered, if the answer says so


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer of the gateway's own."""

    status: int
    body: bytes
    content_type: bytes = b"application/json"


class Call(NamedTuple):
    """What the caller asks for: the endpoint, and the body's fields that decide."""

    model_alias: str | None = None
    stream: bool = False
    body: bytes | None = None  # as sent; None: streamed, or there is none
    text: bytes | None = None  # the body, decompressed, where it is a JSON object
    document: Mapping[str, Any] | None = None  # `text`, parsed

    def without_body(self) -> "Call":
        """What is left to know of it once it was sent."""
        return Call(self.model_alias, self.stream)

    def __repr__(self) -> str:  # the rest is what somebody wrote to a model
        return f"Call(model_alias={self.model_alias!r}, stream={self.stream!r})"
