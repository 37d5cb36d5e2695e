"""`tollway prices show`: what a model costs, by the files of prices."""

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from proxy.adapters.price_files import names_in, read_price_files, shipped_folder
from proxy.cli.terminal import EXIT_FAILED, EXIT_OK, CommandFailed, Terminal
from proxy.core.clock import Clock
from proxy.pricing.catalog import Catalog, parse_catalog
from proxy.pricing.facts import STANDARD, ModelFacts, Rates
from proxy.pricing.problem import PriceError

_HEADINGS = ("MODEL", "PROVIDER", "TIER", "INPUT FROM", "INPUT", "CACHED", "OUTPUT", "OTHER", "CONTEXT", "MAX OUTPUT")
_UNITS = (
    ("request_nusd", "a call"),
    ("image_nusd", "a picture"),
    ("audio_nusd_per_minute", "a minute heard"),
    ("speech_nusd_per_mchar", "a million letters spoken"),
)


def price_folder(arguments: Namespace) -> Path:
    """The folder that `--folder` names, else the shipped one."""
    return Path(arguments.folder) if arguments.folder is not None else shipped_folder()


def show_prices(arguments: Namespace, terminal: Terminal, clock: Clock) -> int:
    """Show what models cost now: one, those whose names contain a text, or all of a provider."""
    folder = price_folder(arguments)
    names = names_in(folder) if arguments.provider is None else [arguments.provider]
    texts = read_price_files(folder, names)
    if not texts:
        raise CommandFailed(f"{folder} has no file of prices{f' for {names[0]}' if arguments.provider else ''}.")
    try:
        catalog = parse_catalog(texts)
    except PriceError as error:
        return refuse_prices(error, terminal)
    found = list(_found(catalog, arguments.model, clock.now_ms()))
    if not found:
        raise CommandFailed(f"no model is called {arguments.model!r}. `tollway prices show` lists them all.")
    terminal.answer(
        {"version": catalog.version, "models": [_described(name, model, facts) for name, model, facts in found]}
    )
    is_one = len({model for _, model, _ in found}) == 1
    terminal.table(_HEADINGS, [row for name, model, facts in found for row in _rows(name, model, facts, is_one)])
    terminal.note(f"Dollars for a million tokens. Prices {catalog.version}, from {folder}.")
    return EXIT_OK


def refuse_prices(error: PriceError, terminal: Terminal) -> int:
    """Show every problem of files that are refused."""
    problems = [{"path": each.path, "expected": each.expected, "found": each.found} for each in error.problems]
    terminal.answer({"ok": False, "problems": problems})
    for problem in error.problems:
        terminal.note(str(problem))
    count = len(problems)
    terminal.fail(f"{count} {'problem' if count == 1 else 'problems'} in the prices: nothing of them is used")
    return EXIT_FAILED


def _found(catalog: Catalog, model: str | None, at_ms: int) -> Iterator[tuple[str, str, ModelFacts]]:
    """Catalogue, model and facts: of that name, else of all that contain it."""
    known = [(name, each) for name in sorted(catalog.names) for each in sorted(catalog.models(name))]
    chosen = [(name, each) for name, each in known if model is None or each == model]
    if not chosen and model is not None:
        chosen = [(name, each) for name, each in known if model.lower() in each.lower()]
    for name, each in chosen:
        facts = catalog.find(name, each, at_ms)
        if facts is not None:
            yield name, each, facts


def _rows(name: str, model: str, facts: ModelFacts, is_one: bool) -> Iterator[tuple[str, ...]]:
    """The standard tier's line; of one model alone, a line for each tier and length of input."""
    limits = (_count(facts.context_tokens), _count(facts.max_output_tokens))
    for tier, bands in facts.price.tiers.items():
        if tier != STANDARD and not is_one:
            continue
        for band in bands if is_one else bands[:1]:
            rates = band.rates
            money = (
                usd(rates.input_nusd_per_mtok),
                usd(rates.cached_input_nusd_per_mtok),
                usd(rates.output_nusd_per_mtok),
            )
            other = "; ".join(_units(facts)) if band.above_tokens == 0 and tier == STANDARD else ""
            yield (model, name, tier, f"{band.above_tokens:,}", *money, other, *limits)


def _units(facts: ModelFacts) -> Iterator[str]:
    for field, unit in _UNITS:
        nusd = getattr(facts.price, field)
        if nusd:
            yield f"{usd(nusd)} for {unit}"
    for name, nusd in facts.price.tool_nusd.items():
        if nusd:
            yield f"{usd(nusd)} for {name}"


def _described(name: str, model: str, facts: ModelFacts) -> dict[str, object]:
    its_price = facts.price
    return {
        "model": model,
        "catalog": name,
        "context_tokens": facts.context_tokens,
        "max_output_tokens": facts.max_output_tokens,
        "capabilities": sorted(facts.capabilities),
        "tiers": {
            tier: [{"above_tokens": band.above_tokens, **_named(band.rates)} for band in bands]
            for tier, bands in its_price.tiers.items()
        },
        "tool_nusd": dict(its_price.tool_nusd),
        "region_pct": dict(its_price.region_pct),
        **{field: getattr(its_price, field) for field, _ in _UNITS},
    }


def _named(rates: Rates) -> dict[str, int]:
    return rates._asdict()


def usd(nusd: int) -> str:
    """Nano-dollars as plain dollars, no digit more than is needed."""
    whole, rest = divmod(nusd, 1_000_000_000)
    return f"{whole}.{rest:09d}".rstrip("0").rstrip(".") if rest else str(whole)


def _count(tokens: int | None) -> str:
    return "unknown" if tokens is None else f"{tokens:,}"
