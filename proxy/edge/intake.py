"""From an ASGI scope to the request that the line serves.

Pure. The headers are copied at once: a server may go on to change the scope's own list.
Everything is decided on the path's bytes as sent and its segments decoded once, never on a
URL put together from the Host header (CVE-2026-48710).
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from proxy.core.errors import GatewayError, UnknownUrl
from proxy.core.types import InboundRequest
from proxy.dialects.openai import classify, parse_target

_VERSION_PREFIX = "/v1"


def read_scope(scope: Mapping[str, Any]) -> InboundRequest:
    """The request, but for its body. A target that cannot be served is its `fault`, so that
    the refusal goes the one straight line, and is counted and logged like every other."""
    path = _path(scope)
    method = scope["method"]
    client = scope.get("client")
    fault: GatewayError | None = None
    try:
        endpoint_path, segments = _endpoint(method, path)
    except GatewayError as error:
        endpoint_path, segments, fault = path, (), error
    return InboundRequest(
        method=method,
        path=path,
        endpoint_path=endpoint_path,
        segments=segments,
        query=scope["query_string"].decode("latin-1"),
        headers=tuple(scope["headers"]),
        peer=client[0] if client else None,
        fault=fault,
    )


def _path(scope: Mapping[str, Any]) -> str:
    """The path as sent, less the root path that a host application mounted us under."""
    raw: bytes | None = scope.get("raw_path")
    path = raw.decode("ascii", "replace") if raw else quote(scope["path"], safe="/:@!$&'()*+,;=~")
    path = path.partition("?")[0]  # some servers leave the query in it
    root = scope.get("root_path") or ""
    if root:
        path = path.removeprefix(quote(root, safe="/:@!$&'()*+,;=~"))
    return path or "/"


def _endpoint(method: str, path: str) -> tuple[str, tuple[str, ...]]:
    """The path below `/v1`, and its segments. Raises InvalidPath, UnknownUrl."""
    if path.startswith("/v1/"):
        endpoint_path = path[len(_VERSION_PREFIX) :]
        return endpoint_path, parse_target(endpoint_path)
    # A base URL that forgot its `/v1` still means the same endpoints.
    segments = parse_target(path)
    if classify(method, segments).name == "other":
        raise UnknownUrl(f"Unknown URL ({method} {path[:200]}). The endpoints of this gateway are below /v1.")
    return path, segments
