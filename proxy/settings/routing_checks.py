"""What must hold among models: rules that can hold, aliases that come to an end, weights that choose.

Pure. One mistake, one problem: what is wrong in itself is reported where it is read.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Final

from proxy.core.consent import Tier
from proxy.settings.model import Settings
from proxy.settings.problem import element, member
from proxy.settings.reader import Source
from proxy.settings.routing import DeploymentSettings, ModelSettings, Sticky, Strategy, When

CHAIN_MAX = 16

NO_REGION: Final = (
    "residency names no region of any provider: every call of this tenant is refused. Write `region` beside the "
    "providers that may serve it."
)
"""What is said of a tenant, in the file or put at run time."""


def check_routing(draft: Settings, source: Source) -> None:
    """Report what no call could ever come through."""
    for alias, model in draft.models.items():
        where = member("models", alias)
        _check_rules(model, where, source)
        _check_deployments(model, where, source)
        if model.switched_to == alias:
            source.report(f"{where}.switched_to", "another model", "itself", "Remove the line.")
    _check_cycles(draft.models, source)
    _check_facts(draft.models, source)
    _check_places(draft.models, source)


def advise_routing(settings: Settings) -> Iterator[str]:
    """What is legal but unwise, each said with what to do about it."""
    for alias, model in settings.models.items():
        where = member("models", alias)
        if model.tenants is not None and not model.tenants:
            yield f"{where}.tenants is empty: no tenant may use this model. Name one, or remove the list."
        if model.plans is not None and not model.plans:
            yield f"{where}.plans is empty: no tenant may use this model. Name a plan, or remove the list."
        if model.deployments and all(deployment.drained for deployment in model.deployments):
            yield f"{where}: all deployments are drained, so every call of it is refused."
        if model.strategy is not Strategy.WEIGHTED and any(each.weight != 1 for each in model.deployments):
            yield f'{where}: a weight does nothing with strategy = "{model.strategy}". Remove it, or say "weighted".'
        if model.strategy in (Strategy.PRIORITY, Strategy.CHEAPEST) and model.sticky is not Sticky.NONE:
            yield f'{where}.sticky does nothing with strategy = "{model.strategy}": its choice is steady. Remove it.'
    for tenant in settings.tenants.values():
        if tenant.residency is not None and names_no_region(tenant.residency, settings):
            yield f"{member('tenants', tenant.id)}.{NO_REGION}"


def names_no_region(residency: frozenset[str], settings: Settings) -> bool:
    """True where no provider is in any of these regions."""
    return residency.isdisjoint(provider.region for provider in settings.providers.values())


def _check_rules(model: ModelSettings, where: str, source: Source) -> None:
    for index, rule in enumerate(model.rules):
        place = element(f"{where}.rules", index)
        if any(each.path.startswith(f"{place}.") for each in source.problems):
            continue
        when = rule.when
        least, most = when.input_tokens_min, when.input_tokens_max
        if least is not None and most is not None and least > most:
            expected = f"at most {place}.when.input_tokens_max ({most})"
            told = "No input has so many tokens and so few."
            source.report(f"{place}.when.input_tokens_min", expected, str(least), told)
            continue
        empty = [name for name in ("feature", "plan", "tier") if getattr(when, name) == frozenset()]
        if empty:
            source.report(f"{place}.when.{empty[0]}", "at least one name", "an empty list", "Nothing is in it.")
            continue
        for earlier_index, earlier in enumerate(model.rules[:index]):
            if covers(earlier.when, when):
                source.report(
                    place,
                    "a rule that can hold",
                    f"one whose every call {element(f'{where}.rules', earlier_index)} takes first",
                    "Put it before that rule, or remove it.",
                )
                break


def covers(wide: When, narrow: When) -> bool:
    """True where every call for which `narrow` holds is one for which `wide` does."""
    for field in fields(When):
        wanted, given = getattr(wide, field.name), getattr(narrow, field.name)
        if wanted is None:
            continue
        if given is None:
            return False
        if isinstance(wanted, frozenset):
            holds = given <= wanted
        elif field.name.endswith("_min"):
            holds = given >= wanted
        elif field.name.endswith("_max"):
            holds = given <= wanted
        else:
            holds = given == wanted
        if not holds:
            return False
    return True


def _check_deployments(model: ModelSettings, where: str, source: Source) -> None:
    if not model.deployments or any(each.path.startswith(f"{where}.") for each in source.problems):
        return
    if all(deployment.tier is not Tier.SAME for deployment in model.deployments):
        source.report(
            f"{where}.deployments",
            "at least one without a tier, or with the tier same",
            "none",
            "Whoever has agreed to no fallback could never be served.",
        )
    if model.strategy is Strategy.WEIGHTED:
        firsts = [deployment.weight for deployment in model.deployments if deployment.tier is Tier.SAME]
        if firsts and not sum(firsts):
            expected = "weights whose sum is above 0, among those of tier same"
            source.report(f"{where}.deployments", expected, "a sum of 0", "Give one of them a weight.")
    seen: dict[tuple[str, str], str] = {}
    for index, deployment in enumerate(model.deployments):
        place = element(f"{where}.deployments", index)
        first = seen.setdefault((deployment.provider, deployment.model), place)
        if first != place:
            source.report(place, f"another place than {first}", "the same provider and model", "Remove one of the two.")


def _check_cycles(models: Mapping[str, ModelSettings], source: Source) -> None:
    """Every chain of aliases has to come to one with deployments."""
    done: set[str] = set()
    for alias in models:
        chain: list[str] = []
        _follow(alias, models, chain, done, source)


def _follow(alias: str, models: Mapping[str, ModelSettings], chain: list[str], done: set[str], source: Source) -> None:
    if alias in done or alias not in models:
        return
    if len(chain) == CHAIN_MAX:
        source.report(
            member("models", chain[0]),
            f"at most {CHAIN_MAX} models, each leading to the next",
            "more",
            "Name the last one.",
        )
        done.update(chain)
        return
    if alias in chain:
        if len(chain) - chain.index(alias) > 1 or models[alias].switched_to != alias:  # that one is told already
            told = " → ".join([*chain[chain.index(alias) :], alias])
            where = member("models", alias)
            source.report(where, "a model that leads to a deployment in the end", f"a circle: {told}")
        done.update(chain)
        return
    chain.append(alias)
    for following in leads_to(models[alias]):
        _follow(following, models, chain, done, source)
    chain.pop()
    done.add(alias)


def leads_to(model: ModelSettings) -> list[str]:
    """The aliases that may serve in this one's place."""
    following = [rule.use for rule in model.rules]
    return following + [alias for alias in (model.default, model.switched_to) if alias is not None]


def _check_facts(models: Mapping[str, ModelSettings], source: Source) -> None:
    """One model of one provider has one price and one size, whatever alias leads to it."""
    first: dict[tuple[str, str], tuple[str, DeploymentSettings]] = {}
    for alias, model in models.items():
        for index, deployment in enumerate(model.deployments):
            where = element(member(member("models", alias), "deployments"), index)
            if not deployment.says_something or any(each.path.startswith(f"{where}.") for each in source.problems):
                continue
            earlier_where, earlier = first.setdefault((deployment.provider, deployment.model), (where, deployment))
            if earlier.facts != deployment.facts:
                source.report(
                    where,
                    f"the same price, tokens and capabilities as {earlier_where}, or none",
                    "others",
                    f"Both are {deployment.provider}/{deployment.model}, and what is written of that holds wherever "
                    "it is called. For two prices, write the provider twice, under two names.",
                )


def _check_places(models: Mapping[str, ModelSettings], source: Source) -> None:
    """One model of one provider has so many places, whatever alias leads to it: they are counted together."""
    first: dict[tuple[str, str], tuple[str, int | None]] = {}
    for alias, model in models.items():
        for index, deployment in enumerate(model.deployments):
            where = element(member(member("models", alias), "deployments"), index)
            if any(each.path.startswith(f"{where}.") or each.path == where for each in source.problems):
                continue
            place = (where, deployment.in_flight_max)
            earlier_where, earlier = first.setdefault((deployment.provider, deployment.model), place)
            if earlier != deployment.in_flight_max:
                source.report(
                    f"{where}.in_flight_max",
                    f"the same as at {earlier_where} ({_or_none(earlier)})",
                    _or_none(deployment.in_flight_max),
                    f"Both are {deployment.provider}/{deployment.model}, whose calls are counted together. For places "
                    "of its own, write the provider twice, under two names.",
                )


def _or_none(number: int | None) -> str:
    return "none" if number is None else str(number)
