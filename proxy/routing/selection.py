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
    withheld: Consent | None = None  # the least consent under which there would be (more) to fall back to


def choose(
    route: Route,
    candidates: Sequence[Candidate],
    withheld: Sequence[Candidate],
    consent: Consent,
    needs: Needs,
    abilities_of: Callable[[Deployment], Abilities],
    preference_of: Callable[[Candidate], float] | None,
    standing_of: Callable[[Candidate], Standing],
) -> Choice:
    """Say whom to ask. `candidates` may serve the caller, `withheld` would if it consented; `preference_of` is what
    the strategy says, the lowest first (None: the order of the file).

    Raises:
        UnsupportedParameter: none of them can do what the call needs, by the operator's own word.
    """
    assert candidates, "a route without candidates is refused before one is chosen"
    if len(candidates) == 1:
        only = candidates[0]
        known = abilities_of(only.deployment)
        if _fit(needs, known) == _CANNOT:
            raise _unsupported(route, needs.capabilities - (known.capabilities or frozenset()))
        blocked = 1 if standing_of(only) is Standing.BLOCKED else 0
        return Choice(only, (only,), blocked, _consent_for(withheld))
    ranked = []
    missing: frozenset[str] = frozenset()
    for index, each in enumerate(candidates):
        known = abilities_of(each.deployment)
        fit = _fit(needs, known)
        if fit == _CANNOT:
            missing = missing or needs.capabilities - (known.capabilities or frozenset())
            continue
        preference = 0.0 if preference_of is None else preference_of(each)
        ranked.append((fit, TIER_RANK[each.tier], preference, index, each))
    if not ranked:
        raise _unsupported(route, missing)
    ranked.sort()
    ordered = [entry[-1] for entry in ranked]
    stood = [(standing_of(each), each) for each in ordered]
    stood.sort(key=lambda pair: pair[0])
    asked = tuple(each for _, each in stood)
    blocked = sum(standing is Standing.BLOCKED for standing, _ in stood)
    if consent is Consent.NONE:  # one may be chosen for the call; none is asked after it
        rest = (*ordered[1:], *withheld)
        return Choice(ordered[0], asked[:1], min(blocked, int(blocked == len(asked))), _consent_for(rest))
    return Choice(ordered[0], asked, blocked, _consent_for(withheld))


def _consent_for(withheld: Sequence[Candidate]) -> Consent | None:
    if not withheld:
        return None
    lowest = min((each.tier for each in withheld), key=TIER_RANK.__getitem__)
    return consent_to(Tier.EQUIVALENT if lowest is Tier.SAME else lowest)


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
