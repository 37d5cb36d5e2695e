"""Which deployment is asked, and what is known of its model: routing meets the prices."""

from typing import Final

from proxy.core.types import Deployment
from proxy.dialects.needs import needed_capabilities
from proxy.dialects.streamed_output import BYTES_PER_TOKEN
from proxy.pipeline.exchange import Exchange
from proxy.routing.selection import Needs, select

# Whom a call without a model asks (OpenAI's API reference); of pictures that depends on the rest of the call.
_UNNAMED: Final = {"moderations": "omni-moderation-latest"}


def choose_deployment(exchange: Exchange) -> Deployment:
    """The deployment that is asked first.

    Raises:
        UnsupportedParameter: no deployment of the route can do what the call needs.
    """
    route, prices, call = exchange.route, exchange.snapshot.prices, exchange.call
    assert route is not None, "where a call may go is resolved before one place is chosen"
    if route.is_written:
        input_tokens = len(call.text or b"") // BYTES_PER_TOKEN
        needs = Needs(needed_capabilities(exchange.operation, call.document), input_tokens)
        deployment = select(route, needs, lambda each: prices.abilities(each, exchange.started_at_ms))
    else:
        deployment = route.deployments[0]  # what the default provider can do is its own to say
    exchange.deployment = priced = deployment
    if deployment.model is None:
        priced = deployment._replace(model=_UNNAMED.get(exchange.operation.name))
    exchange.facts = prices.find(priced, exchange.started_at_ms)
    return deployment
