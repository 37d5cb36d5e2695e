"""Reads what the caller asks for: the body, bounded, and the few fields of it that decide."""

from proxy.core.types import Call
from proxy.dialects.call import parse_call
from proxy.dialects.openai import BodyKind, is_json, model_in_path
from proxy.pipeline.downstream import Downstream
from proxy.pipeline.exchange import Exchange


async def read_call(exchange: Exchange, downstream: Downstream) -> Call:
    """Read a JSON body whole; leave every other body to be streamed to the upstream.

    Raises:
        RequestTooLarge, CallerGone: from the caller's side.
        InvalidJson, InvalidParameter, DuplicateParameter, UnsupportedEncoding: see `dialects.call`.
    """
    request, operation = exchange.request, exchange.operation
    if operation.body is not BodyKind.JSON:
        if not request.has_body:
            # Taking the empty body leaves the caller's side free to tell of a disconnect.
            await downstream.read_body(0)
            return Call(stream="stream=true" in request.query.split("&"))
        if not is_json(request.fields.get(b"content-type")):
            return Call()
    bytes_max = exchange.snapshot.settings.server.body_bytes_max
    body = await downstream.read_body(bytes_max)
    return parse_call(operation, body, request.fields.get(b"content-encoding"), bytes_max)


def named_model(exchange: Exchange) -> str | None:
    """The alias that routes the call: from the body, or from a path that is a model's."""
    if exchange.operation.name == "model":
        return model_in_path(exchange.request.segments)
    caller = exchange.caller
    if exchange.operation.name == "other" and caller is not None and caller.allowed_models is not None:
        return None  # on a path that nobody here knows, the path may be what decides
    return exchange.call.model_alias
