"""How the gateway is configured where its capacity is measured: with nothing on, and with everything."""

import json
from typing import Final

from benchmarks.latency import MODEL, STREAM_MODEL, body
from benchmarks.load import NUMBER

SLOW_MODEL: Final = "simulated-every10ms-18chunks"  # 21 events, 0.2 s
LONG_MODEL: Final = "simulated-every1000ms-60chunks"  # 63 events, a minute
MODELS: Final = (MODEL, STREAM_MODEL, SLOW_MODEL, LONG_MODEL)
TENANT, USER, FEATURE = "acme", "ann", "report"
EXPORT_S: Final = 1.0
"""Oftener than the 5 s of every other gateway, so that no round is without its part of the exporter's work."""

PASSTHROUGH: Final = "passthrough"
EVERYTHING: Final = "everything"
MISSES: Final = "misses"
"""Everything, and an answer could be kept of each call: so each is looked up, and is another."""

MODES: Final = (PASSTHROUGH, EVERYTHING, MISSES)

_SERVER: Final = """\
[server]
bind = "127.0.0.1:{port}"
admin_bind = "127.0.0.1:{admin_port}"
drain_s = 1
in_flight_max = 20_000

[state]
folder = "{folder}"
STATE
[providers.bench]
dialect = "openai"
base_url = "{upstream}"
connections_max = 20_000
TRUST
"""
_PASSTHROUGH: Final = """
[auth]
mode = "passthrough"
default_provider = "bench"
"""
_EVERYTHING: Final = f"""
[auth]
mode = "virtual-keys"

[plans.default.tenant]
requests_per_minute = 60_000_000
tokens_per_minute = 1_000_000_000_000
usd_per_day = 1_000_000
usd_per_month = 4_000_000

[plans.default.user]
requests_per_minute = 60_000_000
usd_per_day = 1_000_000

[plans.default.virtual_key]
requests_per_minute = 60_000_000
tokens_per_minute = 1_000_000_000_000

[plans.default.features.{FEATURE}]
usd_per_day = 1_000_000

[tenants.{TENANT}]
cache = {{{{ mode = "CACHE", ttl_s = 60 }}}}

[ledger]
sink = "folder:ledger/"
export_every_s = {EXPORT_S:g}
"""
_MODEL: Final = """
[[models.{model}.deployments]]
provider = "bench"
model = "{model}"
price = {{{{ input_usd_per_mtok = 1.0, output_usd_per_mtok = 4.0 }}}}
context_tokens = 2_000_000
max_output_tokens = 16_384
"""


def template(mode: str, redis_url: str | None, *, ca_file: str | None = None) -> str:
    """The configuration, for `targets.config_text` to fill in. Without a Redis it is the embedded store."""
    assert mode in MODES
    more = _PASSTHROUGH
    if mode != PASSTHROUGH:
        more = _EVERYTHING.replace("CACHE", "all" if mode == MISSES else "deterministic")
        more += "".join(_MODEL.format(model=model) for model in MODELS)
    state = "" if redis_url is None else f'url = "{redis_url}"\n'
    trust = "" if ca_file is None else f'ca_file = "{ca_file}"\n'
    if mode != PASSTHROUGH:
        trust = f'provider_key = "sk-of-the-gateway"\n{trust}'
    return _SERVER.replace("STATE", state).replace("TRUST", trust) + more


def differing_body(model: str, *, stream: bool, size_bytes: int) -> bytes:
    """A body for rounds that are numbered: its text ends in a number."""
    sent = body(model, stream=stream, size_bytes=size_bytes)
    end = b'"}]}'
    assert sent.endswith(end)
    changed = sent[: -len(end) - len(NUMBER)] + NUMBER + end
    assert json.loads(changed)
    return changed
