"""In which order a route's candidates are asked: what the call needs, tiers, the strategy, health.

Pure. First what policy says, as if all were well: among those that can do what the call needs, by tier, then by the
strategy. Whoever comes first there is whom the tenant asked for, and by whose price it is charged. Then health: those
that are unwell move behind those that are well, in the same order. What nobody has written of a model, and no
catalogue knows, is not held against it.
"""

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from proxy.core.consent import TIER_RANK, Consent, Tier, consent_to
from proxy.core.errors import UnsupportedParameter
from proxy.core.types import Deployment
from proxy.routing.resolve import Candidate, Route

# In the caller's words, and the field that asks for it.
_SAID: Final = {
    "tools": ("tools", "tools"),
    "json_schema": ("a JSON schema", "response_format"),
    "vision": ("pictures in the input", "messages"),
    "pdf": ("documents in the input", "messages"),
    "audio_input": ("sound in the input", "messages"),
    "audio_output": ("sound in the answer", "modalities"),
}
_CAN, _SHORT, _DOUBTFUL, _CANNOT = range(4)


class Standing(IntEnum):
    """How a candidate is just now."""

    WELL = 0
    DEGRADED = 1  # it fails more than it should
    BLOCKED = 2  # its breaker is open, or it asked to be left alone: it is not asked at all


class Abilities(NamedTuple):
    """What is known of a deployment's model. None: not known."""

    capabilities: frozenset[str] | None = None  # names of `core.capabilities`
    context_tokens: int | None = None  # the longest input that it takes
    is_certain: bool = True  # the operator has written the capabilities; else a catalogue, which may be wrong


class Needs(NamedTuple):
    """What a call needs of the model that answers it."""

    capabilities: frozenset[str] = frozenset()
    input_tokens: int = 0  # what its input likely comes to


class Choice(NamedTuple):
    """Whom to ask."""

    first: Candidate  # whom the tenant asked for: what it is charged is by its price at most
    asked: tuple[Candidate, ...]  # one after the other, as long as none answers
    blocked: int = 0  # how many at the end of them are not to be asked now
    others: tuple[Candidate, ...] = ()  # whom the tenant has not agreed to

    @property
    def withheld(self) -> Consent | None:
        """The least consent under which there would be (more) to fall back to; None: there is nobody."""
        if not self.others:
            return None
        lowest = min((each.tier for each in self.others), key=TIER_RANK.__getitem__)
        return consent_to(Tier.EQUIVALENT if lowest is Tier.SAME else lowest)


def choose(
    route: Route,
    candidates: tuple[Candidate, ...],
    withheld: tuple[Candidate, ...],
    consent: Consent,
    needs: Needs,
    abilities_of: Callable[[Deployment], Abilities],
    preferences: Sequence[float] | None,
    standing_of: Callable[[Candidate], Standing],
) -> Choice:
    """Say whom to ask. `candidates` may serve the caller, `withheld` would if it consented; `preferences` are what
    the strategy says of each candidate, the lowest first (None: the order of the file).

    Raises:
        UnsupportedParameter: none of them can do what the call needs, by the operator's own word.
    """
    assert candidates, "a route without candidates is refused before one is chosen"
    ordered = _by_policy(route, candidates, needs, abilities_of, preferences)
    asked, blocked = ordered, 0
    if standing_of(ordered[0]) is not Standing.WELL:  # else the others are looked at when they are needed
        standings = [standing_of(each) for each in ordered]
        blocked = standings.count(Standing.BLOCKED)
        places = sorted(range(len(ordered)), key=standings.__getitem__)
        asked = tuple(ordered[place] for place in places)
    if consent is Consent.NONE and len(asked) > 1:  # one may be chosen for the call; none is asked after it
        return Choice(ordered[0], asked[:1], int(blocked == len(asked)), (*ordered[1:], *withheld))
    return Choice(ordered[0], asked, blocked, withheld)


def _by_policy(
    route: Route,
    candidates: tuple[Candidate, ...],
    needs: Needs,
    abilities_of: Callable[[Deployment], Abilities],
    preferences: Sequence[float] | None,
) -> tuple[Candidate, ...]:
    """As if all were well."""
    fits = [_fit(needs, abilities_of(each.deployment)) for each in candidates]
    if preferences is None and route.is_open and not any(fits):
        return candidates
    ranked = []
    for place, (fit, each) in enumerate(zip(fits, candidates, strict=True)):
        if fit != _CANNOT:
            preference = 0.0 if preferences is None else preferences[place]
            ranked.append((fit, TIER_RANK[each.tier], preference, place))
    if not ranked:
        known = abilities_of(candidates[0].deployment).capabilities or frozenset()
        raise _unsupported(route, needs.capabilities - known)
    ranked.sort()
    return tuple(candidates[place] for *_, place in ranked)


def can(needs: Needs, known: Abilities) -> bool:
    """True where nothing speaks against asking this model first."""
    if not needs.capabilities:  # as a rule
        return known.context_tokens is None or needs.input_tokens <= known.context_tokens
    return _fit(needs, known) == _CAN


def _fit(needs: Needs, known: Abilities) -> int:
    if needs.capabilities and known.capabilities is not None:
        lacking = needs.capabilities - known.capabilities
        if "vision" in known.capabilities:
            lacking -= {"pdf"}  # a page is read as a picture
        if lacking:
            return _CANNOT if known.is_certain else _DOUBTFUL
    is_short = known.context_tokens is not None and needs.input_tokens > known.context_tokens
    return _SHORT if is_short else _CAN


def _unsupported(route: Route, missing: frozenset[str]) -> UnsupportedParameter:
    words, param = next((said for name, said in _SAID.items() if name in missing), ("what this call asks for", None))
    return UnsupportedParameter(
        f"No deployment of `{route.alias}` takes {words}: their `capabilities` lack it. Ask for another model.",
        param=param,
    )
