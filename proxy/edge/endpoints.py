"""The data plane as one raw ASGI callable: no middleware, no routing tree, no request objects."""

from proxy.edge.connection import connection_of
from proxy.edge.intake import read_scope
from proxy.edge.relay import AsgiDownstream, Receive, Scope, Send
from proxy.pipeline.line import Line


class DataPlane:
    """What listens on the data port, or is mounted in a host application."""

    __slots__ = ("_line",)

    def __init__(self, line: Line) -> None:
        self._line = line

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request; turn every other kind of connection away."""
        if scope["type"] == "http":
            connection = connection_of(scope)
            request = connection.head.request if connection is not None else None
            if request is None:
                request = read_scope(scope)
                if connection is not None:
                    connection.head.request = request
            downstream = AsgiDownstream(connection, scope, request, receive, send)
            del scope, connection  # the answer may take long, and needs neither
            await self._line.serve(request, downstream)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "WebSockets are not served here."})
        else:
            raise RuntimeError(f"an ASGI scope of type {scope['type']!r} is not served here")
