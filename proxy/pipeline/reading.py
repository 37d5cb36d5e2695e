"""Reads what the caller asks for: the body, bounded, and the few fields of it that decide."""

from typing import Final

from proxy.core.errors import InvalidForm, RequestTooLarge, UnsupportedEncoding
from proxy.core.types import Call
from proxy.dialects.call import form_call, parse_call
from proxy.dialects.form import FormReader, boundary_of, is_form
from proxy.dialects.openai import BodyKind, is_json, model_in_path
from proxy.pipeline.downstream import Downstream
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.form_body import WHOLE_BYTES_MAX, FormBody

# Forms that carry one large file and name no model: nothing is worth holding them for.
_FILING: Final = frozenset({"files", "uploads"})
_NO_FORM: Final = (b"multipart/", b"application/x-www-form-urlencoded")


async def read_call(exchange: Exchange, downstream: Downstream) -> Call:
    """Read a JSON body whole and a form until it has decided; leave every other body to be
    streamed to the upstream. Where the path names the model, as to Azure, the body's is not asked.

    Raises:
        RequestTooLarge, CallerGone: from the caller's side.
        InvalidJson, InvalidForm, InvalidParameter, DuplicateParameter, UnsupportedEncoding: see
            `dialects.call` and `dialects.form`.
    """
    request, operation = exchange.request, exchange.operation
    if operation.body is not BodyKind.JSON:
        if not request.has_body:
            # Taking the empty body leaves the caller's side free to tell of a disconnect.
            await downstream.read_body(0)
            return Call(stream="stream=true" in request.query.split("&"))
        content_type = request.fields.get(b"content-type")
        if is_form(content_type):
            return await _read_form(exchange, downstream)
        if not is_json(content_type):
            if operation.body is BodyKind.FORM and (content_type or b"").strip().lower().startswith(_NO_FORM):
                raise InvalidForm(
                    "This endpoint takes its fields as `multipart/form-data` or as JSON. Send one of them."
                )
            return Call()
    bytes_max = exchange.snapshot.settings.server.body_bytes_max
    body = await downstream.read_body(bytes_max)
    call = parse_call(operation, body, request.fields.get(b"content-encoding"), bytes_max)
    return call if request.model_of_path is None else call._replace(model_alias=request.model_of_path)


async def _read_form(exchange: Exchange, downstream: Downstream) -> Call:
    fields, operation = exchange.request.fields, exchange.operation
    if (fields.get(b"content-encoding") or b"identity").strip().lower() not in (b"", b"identity"):
        raise UnsupportedEncoding("A form is read as it arrives. Send it without a content-encoding.")
    reader = FormReader(boundary_of(fields[b"content-type"]))
    arriving = downstream.stream_body(upload_bytes_max(exchange))
    form = exchange.form = FormBody(reader, arriving, downstream.announced_bytes)
    held_bytes_max = exchange.snapshot.settings.server.body_bytes_max
    if operation.name in _FILING:
        held_bytes_max = min(held_bytes_max, WHOLE_BYTES_MAX)
    call = form_call(operation, await form.hold(held_bytes_max))
    if exchange.request.model_of_path is not None:
        call = call._replace(model_alias=exchange.request.model_of_path)
    if operation.body is BodyKind.FORM and call.model_alias is None and not form.is_whole:
        raise RequestTooLarge(
            f"The first {form.held_bytes} bytes of the form name no model, and no more are held here. "
            "Send `model` before the files.",
            param="model",
        )
    return call


def upload_bytes_max(exchange: Exchange) -> int:
    """How large a body may be that is no JSON."""
    bytes_max = exchange.snapshot.settings.server.upload_bytes_max
    if exchange.plan.input_bytes_max is not None:
        bytes_max = min(bytes_max, exchange.plan.input_bytes_max)
    return bytes_max


def named_model(exchange: Exchange) -> str | None:
    """The alias that routes the call: from the body, or from a path that is a model's."""
    operation, caller = exchange.operation.name, exchange.caller
    if operation == "model":
        return model_in_path(exchange.request.segments)
    if operation == "other" and caller is not None and caller.allowed_models is not None:
        return None  # on a path that nobody here knows, the path may be what decides
    return exchange.call.model_alias
