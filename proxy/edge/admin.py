"""The admin port: is it alive, is it ready, what is it doing; and the admin API. Never on the data port.

Nothing here reads the Host header or `request.url`, which is made from it: a route is
matched on the path alone, and nobody is redirected.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from proxy.edge.health import Readiness, Report


class Whole(Protocol):
    """All of a gateway's workers."""

    async def look(self) -> Report:
        """How they are."""
        ...

    async def render_metrics(self) -> tuple[bytes, str]:
        """What they have counted together."""
        ...


def create_admin_app(
    readiness: Readiness,
    render_metrics: Callable[[], Awaitable[tuple[bytes, str]]],
    api: Sequence[Route] = (),
    whole: Whole | None = None,
) -> Starlette:
    """Make the admin port's application.

    Args:
        render_metrics: gives the exposition's bytes and its content type.
        api: the admin API's routes, each of which looks for a token itself; the others here need none.
        whole: where this process is one of several, what speaks for all of them.
    """

    async def livez(_request: Request) -> Response:
        # That this runs is the answer: the loop turns.
        return Response(b"ok\n", media_type="text/plain")

    async def readyz(_request: Request) -> Response:
        report = readiness.look() if whole is None else await whole.look()
        return Response(report.encode(), status_code=200 if report.ready else 503, media_type="application/json")

    async def metrics(_request: Request) -> Response:
        body, content_type = await (render_metrics() if whole is None else whole.render_metrics())
        return Response(body, headers={"content-type": content_type})

    app = Starlette(routes=[Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", metrics), *api])
    app.router.redirect_slashes = False  # a redirect's location would repeat the Host header
    return app
