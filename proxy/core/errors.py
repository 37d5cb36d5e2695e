"""Every way in which the gateway says no, each with one code, one status and one source.

An error that a provider sent is not here: it is relayed with its own bytes. The renderer
(`edge.problems`) turns these into the envelope that the caller's SDK understands.
"""

from enum import StrEnum
from typing import ClassVar, Self

from proxy.core.consent import Consent
from proxy.core.unreadable import UnreadableReason


class Source(StrEnum):
    """Whose fault it is; also a header and a metric label, so the vocabulary is closed."""

    CALLER = "caller"
    POLICY = "policy"
    GATEWAY = "gateway"
    UPSTREAM = "upstream"


class GatewayError(Exception):
    """A refusal or failure of the gateway's own. The message says what to do about it."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    source: ClassVar[Source] = Source.GATEWAY
    # What the SDKs are told in `x-should-retry`; None leaves it to their own rules.
    should_retry: ClassVar[bool | None] = None

    def __init__(
        self, message: str, *, param: str | None = None, retry_after_ms: int | None = None, cause: str | None = None
    ) -> None:
        """`cause`: what lies behind it, for operators alone. It may name hosts and files, and never a secret."""
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_ms = retry_after_ms
        self.cause = cause

    @property
    def for_operators(self) -> str:
        """What a log and a command say, where callers read the message."""
        return self.cause or self.message

    def afresh(self) -> Self:
        """The same, as nobody has raised it yet. One that is kept and raised again and again holds, in its traceback,
        the frames of each time, and all that was at hand in them."""
        fresh = type(self).__new__(type(self), *self.args)
        fresh.__dict__.update(self.__dict__)
        return fresh


# ── the caller's ─────────────────────────────────────────────────────────────────────────


class InvalidJson(GatewayError):
    """The body is not JSON, or not a JSON object."""

    status, code, source = 400, "invalid_json", Source.CALLER


class InvalidForm(GatewayError):
    """The body is no form, or one that two readers could read differently."""

    status, code, source = 400, "invalid_form", Source.CALLER


class InvalidParameter(GatewayError):
    """A field that decides something has the wrong type or an impossible value."""

    status, code, source = 400, "invalid_parameter", Source.CALLER


class MissingParameter(GatewayError):
    """A field without which the call cannot be routed is absent."""

    status, code, source = 400, "missing_required_parameter", Source.CALLER


class DuplicateParameter(GatewayError):
    """A field that decides something stands twice: two readers could choose differently."""

    status, code, source = 400, "duplicate_parameter", Source.CALLER


class UnsupportedParameter(GatewayError):
    """The model that answers cannot honour this part of the call, and it was not to be left out silently."""

    status, code, source = 400, "unsupported_parameter", Source.CALLER


class InvalidHeader(GatewayError):
    """One of the gateway's own request headers has a value that it cannot have."""

    status, code, source = 400, "invalid_header", Source.CALLER


class InvalidPath(GatewayError):
    """A path that two readers could understand differently (dot segments, double encoding)."""

    status, code, source = 400, "invalid_path", Source.CALLER


class MalformedRequest(GatewayError):
    """The request breaks HTTP/1.1, or uses a part of it that is a known way to smuggle."""

    status, code, source = 400, "malformed_request", Source.CALLER


class InvalidApiKey(GatewayError):
    """No key, a key that nobody issued, or one that is revoked or expired."""

    status, code, source = 401, "invalid_api_key", Source.CALLER
    should_retry = False


class UnknownUrl(GatewayError):
    """No endpoint has this path, and no default provider would know it."""

    status, code, source = 404, "unknown_url", Source.CALLER


class ModelNotFound(GatewayError):
    """No route has this alias, or it does not exist for this caller."""

    status, code, source = 404, "model_not_found", Source.CALLER


class UnsupportedEndpoint(GatewayError):
    """The provider of the model that is asked for has nothing like this endpoint."""

    status, code, source = 404, "unsupported_endpoint", Source.CALLER
    should_retry = False


class MethodNotAllowed(GatewayError):
    """A method that no endpoint of these APIs has, such as TRACE or CONNECT, or that this one does not."""

    status, code, source = 405, "method_not_allowed", Source.CALLER


class RequestTimedOut(GatewayError):
    """The request's head or body did not arrive in time."""

    status, code, source = 408, "request_timeout", Source.CALLER


class RequestTooLarge(GatewayError):
    """The body is larger than this gateway takes."""

    status, code, source = 413, "request_too_large", Source.CALLER


class TargetTooLong(GatewayError):
    """The path and query are longer than this gateway takes."""

    status, code, source = 414, "target_too_long", Source.CALLER


class UnsupportedEncoding(GatewayError):
    """The body is compressed in a way that the gateway cannot read."""

    status, code, source = 415, "unsupported_content_encoding", Source.CALLER


class HeadersTooLarge(GatewayError):
    """The headers are larger, or more, than this gateway takes."""

    status, code, source = 431, "headers_too_large", Source.CALLER


class CallerGone(GatewayError):
    """The caller hung up. Nobody reads this answer; the row and the log do (nginx's 499)."""

    status, code, source = 499, "caller_gone", Source.CALLER


# ── policy ───────────────────────────────────────────────────────────────────────────────


class TenantNotAllowed(GatewayError):
    """The tenant that was named is not the key's own, or not known to this gateway."""

    status, code, source = 403, "tenant_not_allowed", Source.POLICY
    should_retry = False


class IdentityConflict(GatewayError):
    """A header names another user or feature than the one that the key is bound to."""

    status, code, source = 403, "identity_conflict", Source.POLICY
    should_retry = False


class EndpointNotAllowed(GatewayError):
    """This key may only make calls that name one of its models."""

    status, code, source = 403, "endpoint_not_allowed", Source.POLICY
    should_retry = False


class StatefulPathNotIsolated(GatewayError):
    """The provider would hold an object that other tenants of the same key could reach."""

    status, code, source = 403, "stateful_path_not_isolated", Source.POLICY
    should_retry = False


class UnpricedModel(GatewayError):
    """A cap counts money, and nobody knows what this model costs."""

    status, code, source = 403, "unpriced_model", Source.POLICY
    should_retry = False


class UnpricedEndpoint(GatewayError):
    """A cap counts money, and what this call could cost has no bound that anybody knows."""

    status, code, source = 403, "unpriced_endpoint", Source.POLICY
    should_retry = False


class RateLimited(GatewayError):
    """A bucket of requests or tokens is empty, or as many calls are under way as may be."""

    status, code, source = 429, "rate_limit_exceeded", Source.POLICY


class CapExceeded(GatewayError):
    """A spend cap cannot hold what this call may cost."""

    status, code, source = 429, "insufficient_quota", Source.POLICY
    should_retry = False


class ProviderKeyMissing(GatewayError):
    """Neither the caller nor the gateway has a key for this provider."""

    status, code, source = 400, "provider_key_missing", Source.POLICY
    should_retry = False


class ProviderKeyMisplaced(GatewayError):
    """A stored provider key is bound to another origin than the one that its provider has now."""

    status, code, source = 503, "provider_key_misplaced", Source.POLICY
    should_retry = False


class NoDeploymentAllowed(GatewayError):
    """What was promised to the tenant (where, and what is kept) leaves no deployment that may serve it."""

    status, code, source = 403, "no_deployment_allowed", Source.POLICY
    should_retry = False


class NotCached(GatewayError):
    """A kept answer was asked for, or none (`only`), and there is none to give (RFC 9111, section 5.2.1.7)."""

    status, code, source = 504, "not_cached", Source.POLICY
    should_retry = False


class TenantShredded(GatewayError):
    """The tenant was shredded: its id is used up, and nothing can be stored or opened under it again."""

    status, code, source = 410, "tenant_shredded", Source.POLICY
    should_retry = False


# ── the gateway's ────────────────────────────────────────────────────────────────────────


class InternalError(GatewayError):
    """A fault of ours. The run id leads to the log line."""

    status, code, source = 500, "internal_error", Source.GATEWAY


class StateUnavailable(GatewayError):
    """The state store did not answer in time, so nothing can be promised."""

    status, code, source = 503, "state_unavailable", Source.GATEWAY


class StateIncompatible(GatewayError):
    """The state store was written by a newer release; to go on could damage what it holds."""

    status, code, source = 503, "state_incompatible", Source.GATEWAY


class KeyringUnavailable(GatewayError):
    """What wraps the stored provider keys (the KMS) did not answer in time."""

    status, code, source = 503, "keyring_unavailable", Source.GATEWAY


class ProviderKeyUnreadable(GatewayError):
    """A provider key is stored, and cannot be opened. `reason` is for the log and the metric alone."""

    status, code, source = 500, "provider_key_unreadable", Source.GATEWAY
    should_retry = False

    def __init__(self, reason: UnreadableReason, *, cause: str | None = None) -> None:
        message = "A provider key is stored for this call and cannot be opened. The gateway's log says why."
        super().__init__(message, cause=cause)
        self.reason = reason


class NoDeploymentAvailable(GatewayError):
    """No deployment could be tried: all are out of service, unwell, or in use to the last connection. `withheld`: the
    least consent with which there would have been another."""

    status, code, source = 503, "no_deployment_available", Source.GATEWAY

    def __init__(self, message: str, *, retry_after_ms: int | None = None, withheld: Consent | None = None) -> None:
        super().__init__(message, retry_after_ms=retry_after_ms)
        self.withheld = withheld


class Overloaded(GatewayError):
    """This process has too much to do, and sheds new calls: those of the busiest tenants first."""

    status, code, source = 503, "overloaded", Source.GATEWAY


class GatewayStopped(GatewayError):
    """The gateway was stopped while the answer was on its way. The caller sees a cut connection."""

    status, code, source = 503, "gateway_stopped", Source.GATEWAY


# ── upstream's ───────────────────────────────────────────────────────────────────────────


class UpstreamUnreachable(GatewayError):
    """The provider could not be connected to, or the connection broke before an answer."""

    status, code, source = 502, "upstream_unreachable", Source.UPSTREAM


class UpstreamBrokeOff(UpstreamUnreachable):
    """The connection broke after the whole call was sent: the provider may bill it all the same."""


class UpstreamMalformed(GatewayError):
    """The provider's answer is not HTTP that can be relayed safely."""

    status, code, source = 502, "upstream_malformed", Source.UPSTREAM


class UpstreamTruncated(GatewayError):
    """The provider's answer broke off after its head; what came is never given a clean end."""

    status, code, source = 502, "upstream_truncated", Source.UPSTREAM


class ProviderAuthFailed(GatewayError):
    """The provider refused the gateway's key. Its own words would show a piece of that key."""

    status, code, source = 502, "provider_auth_failed", Source.UPSTREAM
    should_retry = False


class UpstreamTimedOut(GatewayError):
    """The provider did not answer in time."""

    status, code, source = 504, "upstream_timeout", Source.UPSTREAM


class UpstreamNotConnected(UpstreamTimedOut):
    """No connection could be made in time: the provider never saw the call."""
