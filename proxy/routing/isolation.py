"""What may not be reached while tenants share the gateway's own provider key.

Pure. A provider knows one account: whoever calls with the gateway's key could list, read or
delete what another tenant's calls have left there (files, batches, stored responses).
"""

import re
from typing import Final

from proxy.core.errors import StatefulPathNotIsolated, UnknownUrl
from proxy.core.types import Call, InboundRequest
from proxy.dialects.openai import Operation
from proxy.dialects.provider_objects import body_names_object, form_names_object, path_names_object

# Bodies that hold no JSON. All else that is streamed, and read by nobody here, might be taken for
# JSON by the provider: what has no content-type is so to FastAPI, and Go's servers seldom ask.
_NO_JSON: Final = (b"application/octet-stream", b"audio/", b"image/", b"video/")
_ITEMS_ID: Final = re.compile(r"input\[[0-9]+\]\.id")
_OF_ANYTHING: Final = "Send the content in the request itself, or bring your own provider key."
_OF_AN_ITEM: Final = (
    'Hand the item back with its content (of reasoning, `include: ["reasoning.encrypted_content"]` brings it), leave '
    "its id out, or bring your own provider key."
)


def refuse_admin(operation: Operation, request: InboundRequest) -> None:
    """Administration of a provider's account is not served, whoever pays.

    Raises:
        UnknownUrl: the path is one of `/organization` or `/projects`.
    """
    if operation.admin:
        raise UnknownUrl(f"{request.path} administers a provider's account; this gateway does not serve it.")


def refuse_shared_objects(request: InboundRequest, call: Call) -> None:
    """Refuse a call that names an object which the provider holds for the whole account.

    Raises:
        StatefulPathNotIsolated: the path or a field of the body names one, or might.
    """
    if path_names_object(request.method, request.segments):
        raise StatefulPathNotIsolated(
            f"{request.path} names objects that the provider holds for every tenant of this gateway's key. "
            "Send the content in the request itself, or bring your own provider key."
        )
    if call.body is None and call.document is None and request.has_body:
        content_type = request.fields.get(b"content-type", b"")
        if not content_type.strip().lower().startswith(_NO_JSON):
            raise StatefulPathNotIsolated(
                "Nobody here can tell whether this body names objects that the provider holds for every tenant of "
                "this gateway's key. If it is JSON, send it as `content-type: application/json`."
            )
    if call.document is None:
        return
    if call.text is None:  # a form
        field = form_names_object(call.document)
    else:
        field = body_names_object(call.document, call.text)
    if field is not None:
        remedy = _OF_AN_ITEM if _ITEMS_ID.fullmatch(field) else _OF_ANYTHING
        raise StatefulPathNotIsolated(
            f"`{field[:128]}` names an object that the provider holds for every tenant of this gateway's key. {remedy}",
            param=field[:128],
        )
