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
    at_promised_price = replace(attempt.facts, price=attempt.promised_facts.price)
    try:
        promised = estimate(attempt.operation, attempt.call, at_promised_price, catalog=catalog)
    except UnpricedEndpoint:  # sold by another unit
        return Worst(own)
    if promised.held_nusd >= own.held_nusd:
        return Worst(own)
    is_borne = attempt.key_source is KeySource.GATEWAY
    return Worst(promised, own.held_nusd - promised.held_nusd if is_borne else 0)
