"""What an attempt may cost at worst: the tenant, by the price that it was promised, and the operator beside it.

Pure. Whoever is answered by another model than the one it asked for pays for what was used at the lower of the two
prices, so the lower of the two worst cases is enough to hold. What the dearer one has more is the operator's.
"""

from dataclasses import replace
from typing import NamedTuple

from proxy.admission.estimate import FREE, Estimate, estimate, is_free
from proxy.core.errors import UnpricedEndpoint, UnpricedModel
from proxy.core.types import KeySource
from proxy.pipeline.attempt import Attempt
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.refusals import unpriced
from proxy.pricing.difference import dearer_by
from proxy.pricing.facts import Price


class Worst(NamedTuple):
    """One attempt's."""

    estimate: Estimate | None  # None: nobody knows, and the tenant may call it all the same
    absorbed_nusd: int = 0  # what the operator bears at most


def worst_case(exchange: Exchange, attempt: Attempt) -> Worst:
    """The worst case.

    Raises:
        UnpricedModel, UnpricedEndpoint: nobody knows, and caps hold for the tenant.
    """
    assert exchange.tenant is not None
    if is_free(exchange.request.method, attempt.operation):
        return Worst(FREE)
    catalog = exchange.snapshot.prices.catalog_of(attempt.deployment.provider)
    try:
        if attempt.facts is None:
            raise unpriced(names_a_model=attempt.deployment.model is not None)
        own = estimate(attempt.operation, attempt.call, attempt.facts, catalog=catalog)
    except (UnpricedModel, UnpricedEndpoint):
        if exchange.tenant.allow_unmetered:
            return Worst(None)
        raise
    if attempt.promised_facts is None:
        return Worst(own)

    def at(price: Price) -> Estimate | None:
        assert attempt.facts is not None
        try:
            return estimate(attempt.operation, attempt.call, replace(attempt.facts, price=price), catalog=catalog)
        except UnpricedEndpoint:  # sold by another unit
            return None

    promised = at(attempt.promised_facts.price)
    held = own if promised is None or promised.held_nusd >= own.held_nusd else promised
    if attempt.key_source is not KeySource.GATEWAY:
        return Worst(held)
    # Not the difference of the two worst cases: of what is used, either may cost more.
    difference = dearer_by(attempt.facts.price, attempt.promised_facts.price)
    if difference is None:
        return Worst(held)
    dearer = at(difference) or own
    return Worst(held, min(dearer.held_nusd, own.held_nusd))
