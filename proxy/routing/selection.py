"""Which of a route's deployments is asked first: in the operator's order, the first that can do what the call needs.

Pure. What nobody has written of a model, and no catalogue knows, is not held against it.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from proxy.core.errors import UnsupportedParameter
from proxy.core.types import Deployment
from proxy.routing.resolve import Route

# In the caller's words, and the field that asks for it.
_SAID: Final = {
    "tools": ("tools", "tools"),
    "json_schema": ("a JSON schema", "response_format"),
    "vision": ("pictures in the input", "messages"),
    "pdf": ("documents in the input", "messages"),
    "audio_input": ("sound in the input", "messages"),
    "audio_output": ("sound in the answer", "modalities"),
}


class Abilities(NamedTuple):
    """What is known of a deployment's model. None: not known."""

    capabilities: frozenset[str] | None = None  # names of `core.capabilities`
    context_tokens: int | None = None  # the longest input that it takes
    is_certain: bool = True  # the operator has written the capabilities; else a catalogue, which may be wrong


class Needs(NamedTuple):
    """What a call needs of the model that answers it."""

    capabilities: frozenset[str] = frozenset()
    input_tokens: int = 0  # what its input likely comes to


def select(route: Route, needs: Needs, abilities_of: Callable[[Deployment], Abilities]) -> Deployment:
    """The deployment that is asked. One whose context likely is too short comes after all that are long enough, and
    after those one that a catalogue says cannot do it: where there is no other, its provider has the last word.

    Raises:
        UnsupportedParameter: none of them can do what the call needs, by the operator's own word.
    """
    assert route.deployments, "a route without deployments is refused when the configuration is loaded"
    short: Deployment | None = None
    doubtful: Deployment | None = None
    missing: frozenset[str] = frozenset()
    for deployment in route.deployments:
        known = abilities_of(deployment)
        lacking = _lacking(needs.capabilities, known.capabilities)
        if lacking and known.is_certain:
            missing = missing or lacking
        elif lacking:
            doubtful = doubtful or deployment
        elif known.context_tokens is None or needs.input_tokens <= known.context_tokens:
            return deployment
        else:
            short = short or deployment
    second = short or doubtful
    if second is None:
        raise _unsupported(route, missing)
    return second


def _lacking(needed: frozenset[str], known: frozenset[str] | None) -> frozenset[str]:
    if not needed or known is None:
        return frozenset()
    lacking = needed - known
    return lacking - {"pdf"} if "vision" in known else lacking  # a page is read as a picture


def _unsupported(route: Route, missing: frozenset[str]) -> UnsupportedParameter:
    words, param = next((said for name, said in _SAID.items() if name in missing), ("what this call asks for", None))
    return UnsupportedParameter(
        f"No deployment of `{route.alias}` takes {words}: their `capabilities` lack it. Ask for another model.",
        param=param,
    )
