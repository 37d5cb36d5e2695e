"""From one file of prices to the facts of its models, or to everything that is wrong with it.

Pure. Amounts are decimal strings of dollars with nine digits at most behind the point, so that
each is a whole number of nano-dollars: a JSON number would already be a rounded one.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any, Final, TypeAlias

from proxy.core.capabilities import CAPABILITIES
from proxy.pricing.facts import STANDARD, Band, ModelFacts, Price, Rates
from proxy.pricing.problem import PriceProblem

SCHEMA: Final = 1
USD_PER_MTOK_MAX: Final = 10_000
USD_PER_UNIT_MAX: Final = 1_000
PCT_MAX: Final = 1_000

# The spelling of a rate in a file, and what it is where the file leaves it out: another's.
RATE_NAMES: Final = (
    "input",
    "cached_input",
    "cache_write",
    "cache_write_long",
    "audio_input",
    "cached_audio_input",
    "image_input",
    "cached_image_input",
    "output",
    "reasoning",
    "audio_output",
    "image_output",
)
_RATE_FIELDS: Final = {f"{name}_usd_per_mtok": name for name in RATE_NAMES}
_UNIT_FIELDS: Final = {
    "request_usd": "request_nusd",
    "image_usd": "image_nusd",
    "audio_usd_per_minute": "audio_nusd_per_minute",
    "speech_usd_per_mchar": "speech_nusd_per_mchar",
}
_COUNT_FIELDS: Final = (
    "context_tokens",
    "max_output_tokens",
    "image_tokens_max",
    "picture_tokens_max",
    "audio_seconds_max",
)
_MODEL_FIELDS: Final = frozenset({*_COUNT_FIELDS, "capabilities", "prices"})
_VERSION_FIELDS: Final = frozenset({*_UNIT_FIELDS, "valid_from", "tiers", "tools_usd", "region_pct", "endpoint_pct"})
_FILE_FIELDS: Final = frozenset({"schema", "catalog", "taken_on", "source", "license", "tools_usd", "models"})
_COUNT_MAX: Final = 10**9
_AMOUNT: Final = re.compile(r"(\d{1,9})(?:\.(\d{1,9}))?", re.ASCII)
_MS_PER_S: Final = 1_000

# The way to a value from the top: the parent's link and the step from there. It is only spelled
# out where something is wrong: to write thousands of paths would take longer than all else.
_Link: TypeAlias = "tuple[_Link, str | int] | None"
_MODELS: Final[_Link] = (None, "models")

Versions: TypeAlias = tuple[tuple[int, ModelFacts], ...]
"""Facts and the instant from which they hold, in milliseconds since 1970, ascending."""


class FileReader:
    """Reads one parsed file. `problems` grows with whatever is wrong; facts are only good without any."""

    def __init__(self, name: str, region: str | None) -> None:
        self.problems: list[PriceProblem] = []
        self.taken_on = ""
        self._name = name
        self._region = region  # whose `endpoint_pct` is in force
        self._amounts: dict[str, int] = {}  # the same few hundred strings stand in thousands of places
        self._bands_read: dict[tuple[Any, ...], tuple[Band, ...]] = {}
        self._capabilities_read: dict[str, frozenset[str]] = {}
        self._tools_nusd: Mapping[str, int] = {}

    def read(self, document: Any) -> dict[str, Versions]:
        """The facts of every model, by name."""
        if not isinstance(document, dict) or not isinstance(document.get("models"), dict):
            self._refuse(None, "a JSON object with `models`", document)
            return {}
        self._unknown(None, document, _FILE_FIELDS)
        if document.get("schema") != SCHEMA:
            self._refuse((None, "schema"), f"{SCHEMA}; a newer file needs a newer Tollway", document.get("schema"))
        self.taken_on = str(document.get("taken_on", ""))
        if self._day((None, "taken_on"), document.get("taken_on")) is None:
            self.taken_on = ""
        self._tools_nusd = self._tools((None, "tools_usd"), document.get("tools_usd", {}))
        return {name: self._model((_MODELS, name), entry) for name, entry in document["models"].items()}

    def _model(self, path: _Link, entry: Any) -> Versions:
        if not isinstance(entry, dict):
            self._refuse(path, "an object", entry)
            return ()
        self._unknown(path, entry, _MODEL_FIELDS)
        counts = {name: self._count((path, name), entry.get(name)) for name in _COUNT_FIELDS if name in entry}
        seconds = counts.pop("audio_seconds_max", None)
        capabilities = self._capabilities((path, "capabilities"), entry.get("capabilities", []))
        versions = entry.get("prices")
        if not isinstance(versions, list) or not versions:
            self._refuse((path, "prices"), "at least one price", versions)
            return ()
        found = []
        before_ms = -1
        for index, version in enumerate(versions):
            where = ((path, "prices"), index)
            from_ms, its_price = self._version(where, version, is_first=index == 0)
            if from_ms is None:  # and has been refused
                continue
            if from_ms <= before_ms:
                self._refuse((where, "valid_from"), "a day after the one before", version["valid_from"])
            before_ms = from_ms
            audio_ms_max = None if seconds is None else seconds * _MS_PER_S
            facts = ModelFacts(its_price, capabilities=capabilities, audio_ms_max=audio_ms_max, **counts)
            found.append((from_ms, facts))
        return tuple(found)

    def _capabilities(self, path: _Link, entry: Any) -> frozenset[str]:
        names = repr(entry)
        known = self._capabilities_read.get(names)
        if known is None:
            if not isinstance(entry, list) or not set(map(str, entry)).issubset(CAPABILITIES):
                self._refuse(path, f"a list of {', '.join(CAPABILITIES)}", entry)
                return frozenset()
            known = self._capabilities_read[names] = frozenset(entry)
        return known

    def _version(self, path: _Link, entry: Any, *, is_first: bool) -> tuple[int | None, Price]:
        if not isinstance(entry, dict):
            self._refuse(path, "an object", entry)
            return 0, Price({STANDARD: ()})
        self._unknown(path, entry, _VERSION_FIELDS)
        from_ms: int | None = 0
        if "valid_from" in entry or not is_first:
            from_ms = self._day((path, "valid_from"), entry.get("valid_from"))
        pct = 100
        if self._region is not None and isinstance(entry.get("endpoint_pct"), dict):
            pct = self._pcts((path, "endpoint_pct"), entry["endpoint_pct"]).get(self._region, 100)
        units = {
            ours: self._amount((path, name), entry[name], USD_PER_UNIT_MAX)
            for name, ours in _UNIT_FIELDS.items()
            if name in entry
        }
        tiers = self._tiers((path, "tiers"), entry.get("tiers"), pct, needed=not units)
        tools = self._tools_nusd
        if "tools_usd" in entry:
            tools = {**tools, **self._tools((path, "tools_usd"), entry["tools_usd"])}
        region_pct = self._pcts((path, "region_pct"), entry["region_pct"]) if "region_pct" in entry else {}
        return from_ms, Price(tiers, tool_nusd=tools, region_pct=region_pct, **units)

    def _tiers(self, path: _Link, entry: Any, pct: int, *, needed: bool) -> dict[str, tuple[Band, ...]]:
        free: dict[str, tuple[Band, ...]] = {STANDARD: (Band(0, Rates(*[0] * len(RATE_NAMES))),)}
        if entry is None and not needed:
            return free
        if not isinstance(entry, dict) or STANDARD not in entry:
            self._refuse(path, f"rates, those of the tier `{STANDARD}` among them", entry)
            return free
        return {tier: self._shared_bands((path, tier), bands, pct) for tier, bands in entry.items()}

    def _shared_bands(self, path: _Link, entry: Any, pct: int) -> tuple[Band, ...]:
        """A model's dated names have the same rates: read once and kept once, they cost half."""
        try:
            known_by = (pct, *[tuple(band.items()) for band in entry])
            bands = self._bands_read.get(known_by)
        except (AttributeError, TypeError):  # no objects, or no plain values in them: to be refused
            return tuple(self._bands(path, entry, pct))
        if bands is None:
            problems_before = len(self.problems)
            bands = tuple(self._bands(path, entry, pct))
            if len(self.problems) == problems_before:
                self._bands_read[known_by] = bands
        return bands

    def _bands(self, path: _Link, entry: Any, pct: int) -> Iterator[Band]:
        if not isinstance(entry, list) or not entry:
            self._refuse(path, "a list of rates, the first for any input", entry)
            return
        known: dict[str, int] = {}  # a later band says what is different
        above_before = -1
        for index, band in enumerate(entry):
            where = (path, index)
            if not isinstance(band, dict):
                self._refuse(where, "an object", band)
                continue
            above_tokens = self._count((where, "above_tokens"), band.get("above_tokens", 0)) or 0
            if above_tokens <= above_before or (index == 0) != (above_tokens == 0):
                self._refuse((where, "above_tokens"), "none in the first, then ascending", above_tokens)
            above_before = above_tokens
            for name, amount in band.items():
                if name in _RATE_FIELDS:
                    nusd = self._amount((where, name), amount, USD_PER_MTOK_MAX)
                    known[_RATE_FIELDS[name]] = -(-nusd * pct // 100)
                elif name != "above_tokens":
                    self._refuse((where, name), f"one of {', '.join(_RATE_FIELDS)}", amount)
            for name in ("input", "output"):
                if name not in known:
                    self._refuse((where, f"{name}_usd_per_mtok"), "a price", None)
                    known[name] = 0
            yield Band(above_tokens, _complete(known))

    def _tools(self, path: _Link, entry: Any) -> dict[str, int]:
        if not isinstance(entry, dict):
            self._refuse(path, "an object of dollars by a tool's name", entry)
            return {}
        return {name: self._amount((path, name), amount, USD_PER_UNIT_MAX) for name, amount in entry.items()}

    def _pcts(self, path: _Link, entry: Any) -> dict[str, int]:
        if not isinstance(entry, dict) or not all(type(pct) is int and 100 <= pct <= PCT_MAX for pct in entry.values()):
            self._refuse(path, f"whole per cents from 100 to {PCT_MAX} by a region's name", entry)
            return {}
        return dict(entry)

    def _amount(self, path: _Link, text: Any, usd_max: int) -> int:
        """Dollars, as nano-dollars; 0 where they are refused."""
        nusd = self._amounts.get(text) if isinstance(text, str) else None
        if nusd is None:
            nusd = parse_nusd(text)
            if nusd is None:
                self._refuse(path, 'dollars in quotes, at most nine digits behind the point, as "0.25"', text)
                return 0
            self._amounts[text] = nusd
        if nusd > usd_max * 1_000_000_000:
            self._refuse(path, f"at most {usd_max} dollars", text)
            return 0
        return nusd

    def _count(self, path: _Link, value: Any) -> int | None:
        if type(value) is int and 0 <= value <= _COUNT_MAX:
            return value
        self._refuse(path, f"a whole number up to {_COUNT_MAX}", value)
        return None

    def _day(self, path: _Link, text: Any) -> int | None:
        """The first millisecond, UTC, of a day."""
        try:
            day = date.fromisoformat(text)
        except (TypeError, ValueError):
            self._refuse(path, "a day, as 2026-11-25", text)
            return None
        return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * _MS_PER_S

    def _unknown(self, path: _Link, entry: Mapping[str, Any], known: frozenset[str]) -> None:
        for name in entry.keys() - known:
            self._refuse((path, name), f"one of {', '.join(sorted(known))}", name)

    def _refuse(self, path: _Link, expected: str, found: Any) -> None:
        shown = "nothing" if found is None else repr(found)[:80]
        self.problems.append(PriceProblem(self._name + _spelled(path), expected, shown))


def _spelled(path: _Link) -> str:
    steps = ""
    while path is not None:
        path, step = path
        steps = f"[{step}]{steps}" if isinstance(step, int) else f".{step}{steps}"
    return steps


def parse_nusd(text: object) -> int | None:
    """Decimal dollars as nano-dollars; None where they are none, negative, or finer than that."""
    found = _AMOUNT.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    return int(found[1]) * 1_000_000_000 + (int(found[2].ljust(9, "0")) if found[2] else 0)


def _complete(known: Mapping[str, int]) -> Rates:
    """What a file leaves out costs what the same tokens cost otherwise: never less than is known."""
    get = known.get
    text, cached, output = known["input"], get("cached_input", known["input"]), known["output"]
    write = get("cache_write", text)
    audio, image = get("audio_input", text), get("image_input", text)
    return Rates(
        text,
        cached,
        write,
        get("cache_write_long", write),
        audio,
        get("cached_audio_input", audio if "audio_input" in known else cached),
        image,
        get("cached_image_input", image if "image_input" in known else cached),
        output,
        get("reasoning", output),
        get("audio_output", output),
        get("image_output", output),
    )
