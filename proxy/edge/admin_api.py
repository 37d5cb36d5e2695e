"""The admin API, `/admin/v1`: every operation, the role that it needs, and the one way in to all of them.

The way in: no page of another machine, a valid token, an operation that exists, its role; only then is
a body read. Like all of the admin port it decides on the path and the matched route alone: nothing
reads the Host header or `request.url`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from proxy.administration.desk import Desk
from proxy.administration.refusals import ChangeRefused
from proxy.core import jsonio
from proxy.core.admin_errors import AdminNotConfigured, AdminRoleMissing, ForeignOrigin, InvalidAdminToken
from proxy.core.clock import Clock
from proxy.core.errors import CallerGone, GatewayError, InternalError, MethodNotAllowed, UnknownUrl
from proxy.edge.admin_auth import CHALLENGE, AdminTokens, refuse_foreign_pages, require_role
from proxy.edge.admin_provider_keys import (
    delete_provider_key,
    list_provider_keys,
    put_provider_key,
    retrieve_keyring,
    retrieve_provider_key,
    rotate_provider_key,
)
from proxy.edge.admin_request import Asked
from proxy.edge.admin_routing import drain_deployment, list_deployments, list_models, switch_model
from proxy.edge.admin_said import Said, in_words
from proxy.edge.admin_tenants import delete_tenant, list_tenants, put_tenant, retrieve_tenant, shred_tenant
from proxy.edge.admin_virtual_keys import (
    issue_virtual_key,
    list_virtual_keys,
    retrieve_virtual_key,
    revoke_virtual_key,
)
from proxy.edge.problems import render
from proxy.settings.model import AdminRole, AdminSettings

_log = logging.getLogger("tollway.admin")

PREFIX: Final = "/admin/v1"
DESCRIPTION: Final = "admin_openapi.json"
FAILURE_DELAY_S: Final = 0.25  # a wrong token waits so long for its answer, and so do the log and the metrics

_TURNED_AWAY: Final = (AdminNotConfigured, InvalidAdminToken, AdminRoleMissing, ForeignOrigin)


class AdminObserver(Protocol):
    """Whom the API tells what was asked: the metrics."""

    def admin_answered(self, operation: str, status: int, /) -> None:
        """One request, whatever became of it."""
        ...

    def admin_turned_away(self, code: str, /) -> None:
        """One of them without a token, role or place that would do."""
        ...


class Operation(NamedTuple):
    """What one method does at one path."""

    name: str  # in the description, and in the metrics
    role: AdminRole | None  # None: any token
    run: Callable[[Asked], Awaitable[Said]]


Operations = Mapping[str, Operation]
"""What can be done at one path, by method."""


def operations(description: dict[str, object]) -> dict[str, Operations]:
    """Everything that can be asked for, by its path below the prefix. `description` is the OpenAPI document."""

    async def describe(asked: Asked) -> Said:
        asked.query()
        return Said(200, description)

    read, operate, keys = AdminRole.READ, AdminRole.OPERATE, AdminRole.ISSUE_KEYS
    return {
        "/openapi.json": {"GET": Operation("describe", None, describe)},
        "/tenants": {"GET": Operation("list_tenants", read, list_tenants)},
        "/tenants/{tenant_id}": {
            "GET": Operation("retrieve_tenant", read, retrieve_tenant),
            "PUT": Operation("put_tenant", operate, put_tenant),
            "DELETE": Operation("delete_tenant", operate, delete_tenant),
        },
        "/tenants/{tenant_id}/shred": {"POST": Operation("shred_tenant", operate, shred_tenant)},
        "/tenants/{tenant_id}/provider-keys": {
            "GET": Operation("list_provider_keys", read, list_provider_keys),
            "POST": Operation("put_provider_key", keys, put_provider_key),
        },
        "/tenants/{tenant_id}/provider-keys/{provider_key_id}": {
            "GET": Operation("retrieve_provider_key", read, retrieve_provider_key),
            "DELETE": Operation("delete_provider_key", keys, delete_provider_key),
        },
        "/tenants/{tenant_id}/provider-keys/{provider_key_id}/rotate": {
            "POST": Operation("rotate_provider_key", keys, rotate_provider_key)
        },
        "/virtual-keys": {
            "GET": Operation("list_virtual_keys", read, list_virtual_keys),
            "POST": Operation("issue_virtual_key", keys, issue_virtual_key),
        },
        "/virtual-keys/{virtual_key_id}": {"GET": Operation("retrieve_virtual_key", read, retrieve_virtual_key)},
        "/virtual-keys/{virtual_key_id}/revoke": {"POST": Operation("revoke_virtual_key", keys, revoke_virtual_key)},
        "/deployments": {
            "GET": Operation("list_deployments", read, list_deployments),
            "PUT": Operation("drain_deployment", operate, drain_deployment),
        },
        "/models": {
            "GET": Operation("list_models", read, list_models),
            "PUT": Operation("switch_model", operate, switch_model),
        },
        "/keyring": {"GET": Operation("retrieve_keyring", read, retrieve_keyring)},
    }


class AdminDoor:
    """The one way in."""

    __slots__ = ("_clock", "_failure_delay_s", "_observer", "_open_desk", "_settings", "_tokens")

    def __init__(
        self,
        settings: Callable[[], AdminSettings],
        open_desk: Callable[[str], Desk],
        observer: AdminObserver,
        clock: Clock,
        failure_delay_s: float = FAILURE_DELAY_S,
    ) -> None:
        """
        Args:
            settings: those in force now: a reload changes them.
            open_desk: the use cases, for the token of this name.
        """
        self._settings = settings
        self._open_desk = open_desk
        self._observer = observer
        self._clock = clock
        self._failure_delay_s = failure_delay_s
        self._tokens = AdminTokens(settings())

    async def answer(self, request: Request, at_path: Operations) -> Response:
        """Do what is asked, or say why not. Raises nothing for what was sent."""
        operation = at_path.get(request.method)
        desk: Desk | None = None
        try:
            try:
                desk = self._admit(request, at_path)
                assert operation is not None
                said = await operation.run(Asked(request, desk, self._clock.now_ms()))
                response = _response(said.status, jsonio.encode(said.document))
            except ChangeRefused as refused:
                raise in_words(refused) from None
        except GatewayError as error:
            response = await self._refuse(request, error, at_path)
        except ClientDisconnect:
            response = await self._refuse(request, CallerGone("The caller hung up before its body ended."), at_path)
        except Exception:  # noqa: BLE001  a fault of ours costs one request, and is logged whole
            _log.exception("an operation of the admin API failed in the gateway itself")
            response = await self._refuse(request, InternalError("The gateway failed. Its log says why."), at_path)
        if desk is not None and desk.changes.ids:
            response.headers["x-tollway-audit-id"] = desk.changes.ids[-1]
        self._observer.admin_answered(operation.name if operation is not None else "none", response.status_code)
        return response

    def _admit(self, request: Request, at_path: Operations) -> Desk:
        headers = request.scope["headers"]
        refuse_foreign_pages([value for name, value in headers if name == b"origin"])
        if self._tokens.settings is not (settings := self._settings()):
            self._tokens = AdminTokens(settings)
        token = self._tokens.authenticate([value for name, value in headers if name == b"authorization"])
        if not at_path:
            raise UnknownUrl(f"The admin API has no such path. GET {PREFIX}/openapi.json describes it.")
        operation = at_path.get(request.method)
        if operation is None:
            raise MethodNotAllowed(
                f"This path takes {' and '.join(sorted(at_path))}. GET {PREFIX}/openapi.json describes what they do."
            )
        require_role(token, operation.role)
        return self._open_desk(token.name)

    async def _refuse(self, request: Request, error: GatewayError, at_path: Operations) -> Response:
        if isinstance(error, _TURNED_AWAY):
            self._observer.admin_turned_away(error.code)
            peer = request.client.host if request.client is not None else "a Unix socket"
            _log.warning("the admin API turned %s away: %s", peer, error.code)
        status, headers, body = render(error, None)
        response = _response(status, body)
        fields = dict(headers)
        if isinstance(error, MethodNotAllowed):
            fields[b"allow"] = ", ".join(sorted(at_path)).encode()
        if isinstance(error, InvalidAdminToken):
            fields[b"www-authenticate"] = CHALLENGE
            await asyncio.sleep(self._failure_delay_s)
        for name, value in fields.items():
            response.headers[name.decode()] = value.decode()
        return response


class _Place:
    """One path, for every method."""

    def __init__(self, door: AdminDoor, at_path: Operations) -> None:
        self._door = door
        self._at_path = at_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._door.answer(Request(scope, receive), self._at_path)
        await response(scope, receive, send)


def admin_routes(door: AdminDoor) -> list[Route]:
    """The API's routes. Reads the description: blocks on the disk for a moment."""
    description = jsonio.parse(Path(__file__).with_name(DESCRIPTION).read_bytes())
    routes = [Route(PREFIX + path, _Place(door, at_path)) for path, at_path in operations(description).items()]
    # What is nothing is refused by the same door: nobody without a token learns which paths there are.
    routes += [Route(PREFIX, _Place(door, {})), Route(PREFIX + "/{rest:path}", _Place(door, {}))]
    return routes


def _response(status: int, body: bytes) -> Response:
    # An answer may hold a virtual key: nobody between keeps it.
    return Response(body, status, {"cache-control": "no-store"}, "application/json")
