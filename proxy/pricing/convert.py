"""From the source's table to our files: the same facts in our units, one document a catalogue.

Pure. What the source leaves open is filled upwards, never downwards: a rate that is missing for
long inputs grows as the input's does, a tier without rates for long inputs costs the dearer of
what is known. What cannot be priced is not taken, and `Converted.left_out` says why.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from proxy.pricing.facts import STANDARD
from proxy.pricing.known_bounds import image_tokens_max, picture_tokens_max
from proxy.pricing.problem import PriceProblem
from proxy.pricing.reader import RATE_NAMES, SCHEMA, USD_PER_MTOK_MAX, USD_PER_UNIT_MAX
from proxy.pricing.source_table import (
    CAPABILITY_FLAGS,
    Place,
    RateCell,
    dollars,
    place_of,
    rank_of,
    rate_cell,
)

_MTOK: Final = 1_000_000
_FINEST: Final = Decimal("0.000000001")
_S_PER_MINUTE: Final = 60
_INPUTS: Final = frozenset(RATE_NAMES[:8])
# Of catalogues, not of models: the pricing pages of OpenAI and Azure; the table has the containers.
_TOOLS_USD: Final = {
    "openai": {"code_interpreter": "0.03", "file_search": "0.0025", "mcp": "0", "tool_search": "0"},
    "azure": {"code_interpreter": "0.033", "file_search": "0.0025", "mcp": "0", "tool_search": "0"},
    "azure-eu": {"code_interpreter": "0.033", "file_search": "0.0025", "mcp": "0", "tool_search": "0"},
    "azure-us": {"code_interpreter": "0.033", "file_search": "0.0025", "mcp": "0", "tool_search": "0"},
    "anthropic": {"web_fetch": "0", "tool_search": "0"},
}


@dataclass(slots=True)
class Converted:
    """What became of a table. The documents are only good without problems."""

    documents: dict[str, dict[str, Any]] = field(default_factory=dict)  # by catalogue
    left_out: dict[str, str] = field(default_factory=dict)  # the table's name, and why
    problems: list[PriceProblem] = field(default_factory=list)


def convert(table: Mapping[str, Any], *, source: str, taken_on: str) -> Converted:
    """Convert a whole table. `source` and `taken_on` (a day) stand in each file."""
    converted = Converted()
    taken: dict[Place, tuple[str, Mapping[str, Any]]] = {}
    for name in sorted(table):
        entry = _aliased(table, name)
        place = place_of(name, entry) if entry is not None else None
        if entry is not None and place is not None:
            before = taken.get(place)
            if before is None or rank_of(entry) < rank_of(before[1]):
                taken[place] = (name, entry)
    for place, (name, entry) in sorted(taken.items()):
        model = _model(name, place, entry, converted)
        if model is not None:
            document = converted.documents.setdefault(
                place.catalog,
                {
                    "schema": SCHEMA,
                    "catalog": place.catalog,
                    "taken_on": taken_on,
                    "source": source,
                    "license": "MIT",
                    "tools_usd": _TOOLS_USD.get(place.catalog, {}),
                    "models": {},
                },
            )
            document["models"][place.model] = model
    _fill_limits(converted.documents)
    return converted


def _fill_limits(documents: Mapping[str, Mapping[str, Any]]) -> None:
    """A zone's models have the limits of the whole: for many the table says these only there."""
    for name, document in documents.items():
        whole = documents.get(name.rpartition("-")[0])
        if whole is not None:
            for model, entry in document["models"].items():
                known = whole["models"].get(model, {})
                limits = {key: value for key, value in known.items() if key != "prices"}
                document["models"][model] = {**limits, **entry}


def _aliased(table: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    entry = table[name]
    if isinstance(entry, dict) and isinstance(entry.get("alias_of"), str):
        entry = table.get(entry["alias_of"])
    return entry if isinstance(entry, dict) else None


def _model(name: str, place: Place, entry: Mapping[str, Any], converted: Converted) -> dict[str, Any] | None:
    cells = dict(_cells(name, entry, converted))
    units = dict(_units(name, place, entry, converted))
    reason = _why_not(entry["mode"], cells, units, place.catalog)
    if reason is not None:
        converted.left_out[name] = reason
        return None
    version: dict[str, Any] = {}
    if RateCell("input", 0, STANDARD) in cells:
        _fill_output(entry["mode"], cells)
        version["tiers"] = _tiers(cells, _fast_factor(entry))
        units.pop("audio_usd_per_minute", None)  # sold by tokens, where it is sold by tokens
    version.update(units)
    for key, uplifts in (("region_pct", _region_pct(place, entry)), ("endpoint_pct", _endpoint_pct(entry))):
        if uplifts:
            version[key] = uplifts
    model: dict[str, Any] = {}
    for ours, theirs in (("context_tokens", "max_input_tokens"), ("max_output_tokens", "max_output_tokens")):
        count = entry.get(theirs)
        if isinstance(count, int | float) and count > 0:
            model[ours] = int(count)
    bounds = (("image_tokens_max", image_tokens_max), ("picture_tokens_max", picture_tokens_max))
    for ours, bound in bounds:
        tokens = bound(place.model)
        if tokens is not None:
            model[ours] = tokens
    capabilities = sorted(ours for theirs, ours in CAPABILITY_FLAGS.items() if entry.get(theirs) is True)
    if capabilities:
        model["capabilities"] = capabilities
    model["prices"] = [version]
    return model


def _why_not(mode: str, cells: Mapping[RateCell, Decimal], units: Mapping[str, Any], catalog: str) -> str | None:
    text = cells.get(RateCell("input", 0, STANDARD))
    output = cells.get(RateCell("output", 0, STANDARD))
    if mode in ("chat", "responses", "completion"):
        if text is None or output is None:
            return "no price for its input or its output"
        if not output:
            return "free, says the table: that may mean that nobody knows"
    elif mode == "image_generation":
        if catalog == "fireworks":
            return "sold by the step, which nothing reports"
        if "image_usd" not in units and RateCell("image_output", 0, STANDARD) not in cells:
            return "sold by the pixel or by size, which nothing reports"
    elif mode == "embedding":
        if text is None:
            return "no price for its input"
    elif mode != "moderation" and not text and not units:
        return "no price"
    return None


def _cells(name: str, entry: Mapping[str, Any], converted: Converted) -> Iterator[tuple[RateCell, Decimal]]:
    """Each rate in dollars for a million tokens. Zeros count for input and output alone."""
    for key, value in entry.items():
        cell = rate_cell(key)
        if cell is None or value is None:
            continue
        amount = dollars(value)
        if amount is None or not 0 <= amount * _MTOK <= USD_PER_MTOK_MAX:
            expected = f"0 to {USD_PER_MTOK_MAX} dollars for a million tokens"
            converted.problems.append(PriceProblem(f"{name}.{key}", expected, repr(value)[:80]))
        elif amount or cell.kind in ("input", "output"):
            yield cell, amount * _MTOK


def _units(name: str, place: Place, entry: Mapping[str, Any], converted: Converted) -> Iterator[tuple[str, Any]]:
    def most(*keys: str, scale: int = 1) -> Decimal:
        found = Decimal(0)
        for key in keys:
            amount = dollars(entry.get(key, 0))
            if amount is None or not 0 <= amount * scale <= USD_PER_UNIT_MAX:
                expected = f"0 to {USD_PER_UNIT_MAX} dollars for a unit"
                converted.problems.append(PriceProblem(f"{name}.{key}", expected, repr(entry[key])[:80]))
            else:
                found = max(found, amount * scale)
        return found

    mode = entry["mode"]
    if mode == "image_generation":
        sizes = [key for key in entry if key.startswith("output_cost_per_image") and "token" not in key]
        if place.catalog == "xai":
            sizes.append("input_cost_per_image")  # the table's word for a picture made
        image_usd = most(*(key for key in sizes if key in entry))
        if image_usd:
            yield "image_usd", _text(image_usd)
    if mode == "audio_transcription":
        minute_usd = most("input_cost_per_second", "output_cost_per_second", scale=_S_PER_MINUTE)
        if minute_usd:
            yield "audio_usd_per_minute", _text(minute_usd)
    if mode == "audio_speech":
        speech_usd = most("input_cost_per_character", scale=_MTOK)
        if speech_usd:
            yield "speech_usd_per_mchar", _text(speech_usd)
    searches = entry.get("search_context_cost_per_query") or {}
    search_usd = max((dollars(each) or Decimal(0) for each in searches.values()), default=Decimal(0))
    if search_usd and place.catalog == "openai" and mode == "chat" and "-search" in place.model:
        yield "request_usd", _text(search_usd)  # these search in every call
    elif search_usd:
        yield "tools_usd", {"web_search": _text(search_usd)}


def _fill_output(mode: str, cells: dict[RateCell, Decimal]) -> None:
    """What an endpoint without text answers makes has no output rate of its own."""
    output = RateCell("output", 0, STANDARD)
    if output not in cells:
        drawn = cells.get(RateCell("image_output", 0, STANDARD))
        cells[output] = drawn if drawn is not None and mode == "image_generation" else Decimal(0)


def _tiers(cells: Mapping[RateCell, Decimal], fast_factor: Decimal | None) -> dict[str, list[dict[str, Any]]]:
    bounds = sorted({cell.above_tokens for cell in cells})
    standard = _standard(cells, bounds)
    tiers = {STANDARD: standard}
    for tier in sorted({cell.tier for cell in cells} - {STANDARD}):
        bands = []
        for above_tokens, usual in standard.items():
            band = {}
            for kind, usual_usd in usual.items():
                own = cells.get(RateCell(kind, above_tokens, tier))
                if own is None:
                    shorter = cells.get(RateCell(kind, 0, tier), Decimal(0))
                    own = max(shorter, usual_usd)
                band[kind] = own
            bands.append((above_tokens, band))
        tiers[tier] = dict(bands)
    if fast_factor is not None:
        tiers["fast"] = {
            above: {kind: usd * fast_factor for kind, usd in band.items()} for above, band in standard.items()
        }
    return {tier: [_band(above, band) for above, band in bands.items()] for tier, bands in tiers.items()}


def _standard(cells: Mapping[RateCell, Decimal], bounds: list[int]) -> dict[int, dict[str, Decimal]]:
    kinds = {cell.kind for cell in cells if cell.tier == STANDARD and cell.above_tokens == 0}
    base = {kind: cells[RateCell(kind, 0, STANDARD)] for kind in kinds}
    bands = {0: base}
    for above_tokens in bounds:
        own = {kind: usd for kind in kinds if (usd := cells.get(RateCell(kind, above_tokens, STANDARD))) is not None}
        if above_tokens and own:
            growth = {
                side: own.get(side, base[side]) / base[side] if base[side] else Decimal(1)
                for side in ("input", "output")
            }
            bands[above_tokens] = {
                kind: own.get(kind, usd * growth["input" if kind in _INPUTS else "output"])
                for kind, usd in base.items()
            }
    return bands


def _band(above_tokens: int, rates: Mapping[str, Decimal]) -> dict[str, Any]:
    band: dict[str, Any] = {"above_tokens": above_tokens} if above_tokens else {}
    return band | {f"{kind}_usd_per_mtok": _text(rates[kind]) for kind in RATE_NAMES if kind in rates}


def _fast_factor(entry: Mapping[str, Any]) -> Decimal | None:
    """Anthropic's fast mode multiplies every rate."""
    own = entry.get("provider_specific_entry")
    return dollars(own["fast"]) if isinstance(own, dict) and "fast" in own else None


def _region_pct(place: Place, entry: Mapping[str, Any]) -> dict[str, int]:
    own = entry.get("provider_specific_entry")
    factor = dollars(own.get("us")) if isinstance(own, dict) and place.catalog == "anthropic" else None
    return {} if factor is None else {"us": _pct(factor)}


def _endpoint_pct(entry: Mapping[str, Any]) -> dict[str, int]:
    fields = {
        "eu": "regional_processing_uplift_multiplier_eu",
        "us": "regional_processing_uplift_multiplier_us",
        "fedramp": "fedramp_uplift_multiplier",
        "regional": "regional_endpoint_uplift_multiplier",
    }
    factors = {region: dollars(entry.get(key)) for region, key in fields.items()}
    return {region: _pct(factor) for region, factor in factors.items() if factor is not None}


def _pct(factor: Decimal) -> int:
    return int((factor * 100).to_integral_value(rounding="ROUND_CEILING"))


def _text(usd: Decimal) -> str:
    """Plain decimal dollars, to the nano-dollar: the table's floats stray beyond that."""
    text = format(usd.quantize(_FINEST), "f")
    return text.rstrip("0").rstrip(".") or "0"
