"""Which of a route's deployments is asked first.

Pure.
"""

from proxy.core.types import Deployment
from proxy.routing.resolve import Route


def select(route: Route) -> Deployment:
    """The deployment that the operator wrote first."""
    assert route.deployments, "a route without deployments is refused when the configuration is loaded"
    return route.deployments[0]
