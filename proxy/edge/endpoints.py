"""The data plane as one raw ASGI callable: no middleware, no routing tree, no request objects."""

from collections.abc import Awaitable

from proxy.edge.connection import Connection, connection_of
from proxy.edge.intake import read_scope
from proxy.edge.relay import AsgiDownstream, Receive, Scope, Send, announced_bytes
from proxy.pipeline.line import Line


class DataPlane:
    """What listens on the data port, or is mounted in a host application."""

    __slots__ = ("_line",)

    def __init__(self, line: Line) -> None:
        self._line = line

    def serve_connection(self, connection: Connection) -> Awaitable[None]:
        """Serve one HTTP request of our own wire. Of a head that came before, all that a scope would say is known."""
        head = connection.head
        request = head.request
        if request is None:
            request = head.request = read_scope(connection.take_scope())
        downstream = AsgiDownstream(
            connection, request, connection.receive, connection.send, connection.announced_bytes
        )
        return self._line.serve(request, downstream)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request; turn every other kind of connection away."""
        if scope["type"] == "http":
            request = read_scope(scope)
            downstream = AsgiDownstream(connection_of(scope), request, receive, send, announced_bytes(scope))
            del scope  # the answer may take long, and does not need it
            await self._line.serve(request, downstream)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "WebSockets are not served here."})
        else:
            raise RuntimeError(f"an ASGI scope of type {scope['type']!r} is not served here")
