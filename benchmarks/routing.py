"""Measures what it costs to say where a call goes: rules, promises, consent, the strategy, health.

    python -m benchmarks.routing
    python -m benchmarks.routing --rounds 400

A chat of 1 KB whose head and body have been read, in a gateway that is wired as it always is. Each figure stands beside
what parsing the same body as JSON takes, measured in turn with it.
"""

import argparse
import io
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.beside_parse import Figure, measure, table, write
from proxy.app import App, create_app
from proxy.core.types import Caller, InboundRequest
from proxy.dialects.call import parse_call
from proxy.dialects.openai import classify
from proxy.pipeline.exchange import Exchange
from proxy.settings.load import load
from proxy.settings.model import TenantSettings

SEGMENTS: Final = ("chat", "completions")
BODY: Final = (
    b'{"model":"%b","temperature":0.7,"max_tokens":200,"messages":[{"role":"system","content":"'
    + b"You are a careful assistant. " * 14
    + b'"},{"role":"user","content":"'
    + b"What is the weather like? " * 18
    + b'"}]}'
)
_PLACES: Final = ("one", "two", "three")
_FIRST_BYTE_US: Final = {
    "fastest": (400_000, 250_000, 900_000),  # one is clearly the fastest
    "as_fast": (400_000, 390_000, 410_000),  # lots decide
}


def _model(alias: str, more: str = "", places: tuple[str, ...] = _PLACES) -> str:
    deployments = "".join(
        f'[[models.{alias}.deployments]]\nprovider = "{place}"\nmodel = "{alias}-5"\nweight = 1\n'
        f"price = {{ input_usd_per_mtok = {price}, output_usd_per_mtok = {4 * price} }}\n"
        for place, price in zip(places, (0.5, 0.4, 0.6), strict=False)
    )
    return f"[models.{alias}]\n{more}\n{deployments}"


CONFIGURATION: Final = (
    '[auth]\nmode = "trusted-headers"\n'
    + "".join(
        f'[providers.{place}]\nbase_url = "https://{place}.example/v1"\nprovider_key = "sk-{place}s"\nregion = "eu"\n'
        for place in _PLACES
    )
    + _model("single", places=("one",))
    + _model("priority")
    + _model("weighted", 'strategy = "weighted"')
    + _model("sticky", 'strategy = "weighted"\nsticky = "conversation"')
    + _model("fastest", 'strategy = "fastest"')
    + _model("as_fast", 'strategy = "fastest"')
    + _model("cheapest", 'strategy = "cheapest"')
    + """
[models.auto]
default = "single"
rules = [
  { use = "priority", when = { input_tokens_min = 20_000 } },
  { use = "priority", when = { feature = ["sql_generation", "code_review"] } },
  { use = "priority", when = { tools = true } },
  { use = "priority", when = { cap_used_pct_min = 80 } },
]
"""
)
LINES: Final = (
    ("one deployment", "single", TenantSettings("acme")),
    ("three, by priority", "priority", TenantSettings("acme")),
    ("three, for a tenant with a residency", "priority", TenantSettings("acme", residency=frozenset({"eu"}))),
    ("three, weighted by user", "weighted", TenantSettings("acme")),
    ("three, weighted by conversation", "sticky", TenantSettings("acme")),
    ("three, the fastest", "fastest", TenantSettings("acme")),
    ("three that are as fast as each other", "as_fast", TenantSettings("acme")),
    ("three, the cheapest", "cheapest", TenantSettings("acme")),
    ("four rules, then one deployment", "auto", TenantSettings("acme")),
)


def decision(app: App, alias: str, tenant: TenantSettings) -> tuple[bytes, Callable[[], object]]:
    """A body, and the work of saying where it goes."""
    body = BODY.replace(b"%b", alias.encode())
    operation = classify("POST", SEGMENTS)
    request = InboundRequest("POST", "/v1/chat/completions", "/chat/completions", SEGMENTS, "", (), None, has_body=True)
    exchange = Exchange("run_1", request, app.snapshots.current, operation, app.clock.now_ms(), 0)
    exchange.caller, exchange.tenant = Caller("acme", user="ada"), tenant
    exchange.call = parse_call(operation, body, None, len(body))

    def work() -> object:
        exchange.needs = None  # each call works out its own
        exchange.route = app.choosing.resolve(exchange)
        return app.choosing.choose(exchange)

    return body, work


def run(rounds: int) -> list[Figure]:
    """Every line."""
    with TemporaryDirectory() as folder:
        state = f'[state]\nfolder = "{folder}"\n[ledger]\nsink = "none"\n'
        settings = load(CONFIGURATION + state, path="routing.toml", environ={}, read_file=Path.read_text)
        app = create_app(settings, access_log_sink=io.BytesIO())
        _measured(app)
        return [measure(what, *decision(app, alias, tenant), rounds) for what, alias, tenant in LINES]


def _measured(app: App) -> None:
    """Their times to first byte are known, as after some calls."""
    now_us = app.clock.monotonic_us()
    for alias, times_us in _FIRST_BYTE_US.items():
        for place, first_byte_us in zip(_PLACES, times_us, strict=True):
            app.conditions.vitals(f"{place}/{alias}-5").answered(now_us, first_byte_us, stream=False)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="What it costs to say where a call goes.")
    parser.add_argument("--rounds", type=int, default=300, help="of 50 runs, for each line (default: 300)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out"), help="where routing.json is written")
    arguments = parser.parse_args()
    figures = run(arguments.rounds)
    print(table(figures))
    print(f"\nwritten: {write(figures, arguments.out, 'routing.json')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
