"""From an ASGI scope to the request that the line serves.

Pure. The headers are copied at once: a server may go on to change the scope's own list.
Everything is decided on the path's bytes as sent and its segments decoded once, never on a
URL put together from the Host header (CVE-2026-48710).
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from proxy.core.errors import GatewayError, InvalidPath, MalformedRequest, UnknownUrl, UnsupportedEncoding
from proxy.core.types import InboundRequest
from proxy.dialects.call import MODEL_CHARACTERS_MAX
from proxy.dialects.openai import BodyKind, classify, is_charset_read_alike, is_json, parse_target

_VERSION_PREFIX = "/v1"
_AZURE_PREFIX = "/openai/"
# What the body is: with two of them, one reader's JSON is another one's plain text.
_SAID_ONCE = (b"content-type", b"content-encoding")


def read_scope(scope: Mapping[str, Any]) -> InboundRequest:
    """The request, but for its body. A target that cannot be served, or a body that two readers
    would read differently, is its `fault`, so that the refusal goes the one straight line, and is
    counted and logged like every other."""
    path = _path(scope)
    method = scope["method"]
    client = scope.get("client")
    fault: GatewayError | None = None
    try:
        endpoint_path, segments, model = _endpoint(method, path)
    except GatewayError as error:
        endpoint_path, segments, model, fault = path, (), None, error.afresh()  # less this scope, which it would keep
    headers = tuple(scope["headers"])
    request = InboundRequest(
        method=method,
        path=path,
        endpoint_path=endpoint_path,
        segments=segments,
        query=scope["query_string"].decode("latin-1"),
        headers=tuple([pair for pair in headers if pair[0] != b"content-length"]),
        peer=client[0] if client else None,
        model_of_path=model,
        has_body=any(_announces_body(name, value) for name, value in headers),
        fault=fault,
    )
    if fault is None:
        request.fault = _body_fault(request)
    return request


def _announces_body(name: bytes, value: bytes) -> bool:
    return name == b"transfer-encoding" or (name == b"content-length" and value != b"0")


def _body_fault(request: InboundRequest) -> GatewayError | None:
    """Why two readers of this head would read its body differently, if they would."""
    fields, headers = request.fields, request.headers
    if len(fields) != len(headers):
        names = [name for name, _ in headers]
        twice = next((name for name in _SAID_ONCE if names.count(name) > 1), None)
        if twice is not None:
            return MalformedRequest(f"The header `{twice.decode()}` is given more than once. Send it once.")
    content_type = fields.get(b"content-type")
    if content_type is None or is_charset_read_alike(content_type):
        return None
    if not is_json(content_type) and classify(request.method, request.segments).body is not BodyKind.JSON:
        return None
    return UnsupportedEncoding("The content-type names a charset that JSON is not in. Send UTF-8, and no `charset`.")


def _path(scope: Mapping[str, Any]) -> str:
    """The path as sent, less the root path that a host application mounted us under."""
    raw: bytes | None = scope.get("raw_path")
    path = raw.decode("ascii", "replace") if raw else quote(scope["path"], safe="/:@!$&'()*+,;=~")
    path = path.partition("?")[0]  # some servers leave the query in it
    root = scope.get("root_path") or ""
    if root:
        path = path.removeprefix(quote(root, safe="/:@!$&'()*+,;=~"))
    return path or "/"


def _endpoint(method: str, path: str) -> tuple[str, tuple[str, ...], str | None]:
    """The path below `/v1`, its segments, and the model that Azure's form of it names.

    Raises:
        InvalidPath, UnknownUrl.
    """
    if path.startswith("/v1/"):
        endpoint_path = path[len(_VERSION_PREFIX) :]
        return endpoint_path, parse_target(endpoint_path), None
    if path.startswith(_AZURE_PREFIX):
        return _azure_endpoint(method, path)
    # A base URL that forgot its `/v1` still means the same endpoints.
    segments = parse_target(path)
    if classify(method, segments).name == "other":
        raise UnknownUrl(f"Unknown URL ({method} {path[:200]}). The endpoints of this gateway are below /v1.")
    return path, segments, None


def _azure_endpoint(method: str, path: str) -> tuple[str, tuple[str, ...], str | None]:
    """`/openai/v1/…`, and the older `/openai/deployments/{model}/…`."""
    path = path[len(_AZURE_PREFIX) :]
    segments = parse_target("/" + path)
    if segments[0] == "v1":
        return f"/{path.partition('/')[2]}", segments[1:], None
    if segments[0] != "deployments" or classify(method, segments[2:]).name == "other":
        raise UnknownUrl("Unknown URL. Below /openai are /openai/v1/… and /openai/deployments/{model}/….")
    model = segments[1]
    if len(model) > MODEL_CHARACTERS_MAX or not model.isprintable():
        raise InvalidPath(f"The model in the path is at most {MODEL_CHARACTERS_MAX} printable characters.")
    return f"/{path.split('/', 2)[2]}", segments[2:], model
