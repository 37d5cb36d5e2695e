"""May this call be answered from what is kept, and may its answer be kept?

Pure. Whatever asks for state at the provider, or sets its tools going, is never either: its answer is one of a kind.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

from proxy.core.errors import InvalidHeader
from proxy.dialects.provider_objects import body_names_object
from proxy.dialects.splice import duplicates, may_hide_names
from proxy.settings.caching import CacheMode, CachePolicy, CacheSettings

_OFF: Final = CachePolicy()
_ALWAYS_ALIKE: Final = frozenset({"embeddings", "moderations", "messages_count_tokens"})
# Of what is true, each makes the call part of a history, or one of a kind.
_STATEFUL: Final = frozenset({"previous_response_id", "conversation", "background", "store", "container"})
_REACHING_OUT: Final = frozenset(
    {"web_search_options", "mcp_servers", "plugins", "search_parameters", "models", "fallbacks", "extra_body"}
)
# Nearly all that is read of a body here; what is not is refused where it stands twice (`dialects.call`).
_READ: Final = frozenset({*_STATEFUL, *_REACHING_OUT, "temperature", "prompt", "tools"})
_CALLERS_TOOLS: Final = frozenset({None, "function", "custom"})
_MAX_AGE: Final = re.compile(rb'max-age\s*=\s*"?([0-9]{1,10})"?\Z')
_OWN: Final = {b"off": (False, False, False), b"refresh": (False, True, False), b"only": (True, False, True)}


class Bypass(StrEnum):
    """Why a call for which caching is on goes past what is kept: a label of metrics."""

    ASKED = "asked"  # the caller wants it so
    NOT_DETERMINISTIC = "not_deterministic"
    STATEFUL = "stateful"
    TOOLS = "tools"  # the provider's own
    AMBIGUOUS = "ambiguous"  # what decides stands twice in the body, or in another case
    UNNAMED = "unnamed"  # answers are shared by user or by virtual key, and the caller has none


class Directives(NamedTuple):
    """What the caller asks for (RFC 9111, section 5.2.1, and `x-tollway-cache`)."""

    looks: bool = True  # a kept answer will do
    keeps: bool = True  # the answer may be kept
    only: bool = False  # a kept answer, or none
    max_age_s: int | None = None


_NOTHING_ASKED: Final = Directives()


def policy_of(
    settings: CacheSettings,
    tenant: CachePolicy | None,
    model: CachePolicy | None,
    feature: str | None,
    operation_name: str,
) -> CachePolicy:
    """What holds for a call: the most specific that says anything; a tenant's own "off" is the last word."""
    if tenant is not None and tenant.mode is CacheMode.OFF:
        return _OFF
    of_feature = settings.features.get(feature) if feature is not None else None
    return of_feature or model or settings.endpoints.get(operation_name) or tenant or _OFF


def directives_of(cache_control: bytes | None, own: bytes | None) -> Directives:
    """What two headers ask for together.

    Raises:
        InvalidHeader: `x-tollway-cache` is none of its words. Unknown words of `cache-control` mean nothing.
    """
    if cache_control is None and own is None:
        return _NOTHING_ASKED
    looks, keeps, only = True, True, False
    if own is not None:
        asked = _OWN.get(own.strip().lower())
        if asked is None:
            raise InvalidHeader("`x-tollway-cache` is off, refresh or only.")
        looks, keeps, only = asked
    max_age_s = None
    for word in (cache_control or b"").lower().split(b","):
        word = word.strip()
        if word == b"no-store":
            looks = keeps = False
        elif word == b"no-cache":
            looks = False
        elif word == b"only-if-cached":
            only, keeps = True, False
        elif found := _MAX_AGE.match(word):
            max_age_s = int(found[1])
    return Directives(looks, keeps, only, max_age_s)


def bypass_of(mode: CacheMode, operation_name: str, text: bytes, document: Mapping[str, Any]) -> Bypass | None:
    """Why a call is not to be answered from what is kept; None: it may be. The endpoint is of `CACHED_ENDPOINTS`."""
    if mode is not CacheMode.ALL and not _is_deterministic(operation_name, document):
        return Bypass.NOT_DETERMINISTIC
    if operation_name in _ALWAYS_ALIKE:
        return Bypass.STATEFUL if body_names_object(document, text) is not None else None
    if _is_ambiguous(text, document):
        return Bypass.AMBIGUOUS
    if not _STATEFUL.isdisjoint(document) and any(document.get(name) for name in _STATEFUL):
        return Bypass.STATEFUL
    if operation_name == "responses" and (document.get("store") is not False or document.get("prompt") is not None):
        return Bypass.STATEFUL  # what is not told to be forgotten is kept, and named by the answer
    if _sets_tools_going(document):
        return Bypass.TOOLS
    return Bypass.STATEFUL if body_names_object(document, text) is not None else None


def _is_ambiguous(text: bytes, document: Mapping[str, Any]) -> bool:
    """True where the provider might read another value than we do: of a name that stands twice one reader takes the
    first, and some take `Store` for `store`."""
    there = _READ.intersection(document)
    names = "".join(document)
    is_plain = names.isascii() and names == names.lower()  # as in most bodies
    if not is_plain and any(name.casefold() in _READ for name in document if name not in there):
        return True
    if not there:
        return False
    # The search costs a text of a kilobyte less than a microsecond, the look at each member 20.
    if all(text.count(b'"%b"' % name.encode()) == 1 for name in there) and not (
        b"\\u00" in text and may_hide_names(text)
    ):
        return False
    return duplicates(text, document, there) is not None


def _is_deterministic(operation_name: str, document: Mapping[str, Any]) -> bool:
    if operation_name in _ALWAYS_ALIKE:
        return True
    temperature = document.get("temperature")
    return isinstance(temperature, int | float) and not isinstance(temperature, bool) and temperature == 0


def _sets_tools_going(document: Mapping[str, Any]) -> bool:
    if not _REACHING_OUT.isdisjoint(document) and any(document.get(name) for name in _REACHING_OUT):
        return True
    tools = document.get("tools")
    if not tools:
        return False
    if not isinstance(tools, list):
        return True
    return not all(isinstance(tool, dict) and _is_callers(tool.get("type")) for tool in tools)


def _is_callers(kind: object) -> bool:
    return kind is None or (isinstance(kind, str) and kind in _CALLERS_TOOLS)
