"""Every setting is documented with its default, and written in the example; nothing else is."""

import dataclasses
import re
import tomllib
from enum import StrEnum
from pathlib import Path

import pytest

from proxy.core.limits import CAPS, ScopeLimits
from proxy.settings.caching import CachePolicy, CacheSettings
from proxy.settings.model import (
    AdminSettings,
    AdminTokenSettings,
    AuthSettings,
    FallbackSettings,
    KeyringSettings,
    LedgerSettings,
    PlanSettings,
    ProviderSettings,
    ServerSettings,
    StateSettings,
    TenantSettings,
    TimeoutSettings,
)
from proxy.settings.routing import DeploymentSettings, ModelSettings, PriceSettings, RuleSettings, When

ROOT = Path(__file__).resolve().parents[3]
DOCS = (ROOT / "docs" / "configuration.md").read_text()
EXAMPLE = (ROOT / "config" / "production.toml").read_text()

# The heading under which a section's settings stand, what they become, and the fields that
# are no settings: a table's own name, and what the reader notes.
SECTIONS = [
    ("## `[server]`", ServerSettings, set()),
    ("## `[state]`", StateSettings, set()),
    ("## `[auth]`", AuthSettings, set()),
    ("## `[providers.NAME]`", ProviderSettings, {"name", "provider_key_wanted"}),
    ("### `[providers.NAME.timeouts_s]`", TimeoutSettings, set()),
    ("## `[models.ALIAS]`", ModelSettings, {"alias"}),
    ("Each of `deployments`:", DeploymentSettings, set()),
    ("Each of `rules`:", RuleSettings, set()),
    (
        "Each `when`; a list holds where one of its names does, and a single name may stand without brackets:",
        When,
        set(),
    ),
    ("Each `price`, in dollars per million tokens:", PriceSettings, set()),
    ("## `[plans.NAME]`", PlanSettings, {"name"}),
    ("### Scopes of `[plans.NAME]`", ScopeLimits, set()),
    ("## `[tenants.ID]`", TenantSettings, {"id"}),
    ("## `[fallback]`", FallbackSettings, set()),
    ("## `[ledger]`", LedgerSettings, set()),
    ("## `[admin]`", AdminSettings, set()),
    ("Each of `tokens`:", AdminTokenSettings, set()),
    ("## `[keyring]`", KeyringSettings, set()),
    ("## `[cache]`", CacheSettings, set()),
    ("Each `cache`, of a tenant or a model, and each feature and endpoint here:", CachePolicy, set()),
]
# Fields whose default is not the file's: there it has to be written.
REQUIRED = {(CachePolicy, "mode")}
# Defaults that a cell says in words: they are no value of TOML, or stand in another table.
IN_WORDS = {
    "default_provider": "none",
    "api_version": "none",
    "provider_key": "none",
    "ca_file": "none",
    "proxy_url": "none",
    "timeouts_s": "see below",
    "tenants": "every tenant",
    "plans": "every plan",
    "name": "its place",
    "when": "every call",
    "residency": "any",
    **dict.fromkeys(("memory_bytes_max", "region", "probe_every_s", "in_flight_max", "rules", "default"), "none"),
    **dict.fromkeys(("switched_to", "absorb_usd_per_day"), "none"),
    **dict.fromkeys((field.name for field in dataclasses.fields(When)), "none"),
    "catalog": "by name, else by dialect",
    **dict.fromkeys(
        ("price", "context_tokens", "max_output_tokens", "audio_seconds_max", "capabilities"), "the catalogue's"
    ),
    **dict.fromkeys(("cached_input_usd_per_mtok", "cache_write_usd_per_mtok"), "as the input"),
    "input_bytes_max": "none",
    **dict.fromkeys(("tenant", "virtual_key", "features", "models"), "no limits"),
    "user": "20 % of `tenant`",
    **dict.fromkeys(("requests_per_minute", "tokens_per_minute", "max_concurrency", *CAPS.values()), "none"),
    "burst": "as `requests_per_minute`",
    "soft_cap_webhook": "none",
    **dict.fromkeys(("kek", "kms_endpoint_url"), "none"),
    "cache_url": "by `url`",
    "cache": "nothing said",
    "events_per_s": "at once",
}
# Likewise, where another section has a setting of the same name.
IN_WORDS_THERE = {(CacheSettings, "features"): "none", (CacheSettings, "endpoints"): "none"}


def documented(heading):
    """Each setting of a section and its default, from the table below a heading."""
    after = DOCS.split(heading + "\n", 1)[1]
    section = re.split(r"\n##|\nEach ", after, maxsplit=1)[0]
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| `")]
    return {row[0].strip("| `"): row[2] for row in rows}


def fields_of(model, no_settings):
    """A model's fields by what the file calls them: there, amounts are dollars."""
    fields = [field for field in dataclasses.fields(model) if field.name not in no_settings]
    return {CAPS.get(field.name, field.name.replace("_nusd_", "_usd_")): field for field in fields}


def is_required(field):
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def plain(default):
    """A default as TOML would give it."""
    if isinstance(default, StrEnum | Path):
        return str(default)
    if isinstance(default, tuple):
        return list(default)
    return default if isinstance(default, bool | int | float | str) else str(default)


@pytest.mark.parametrize(("heading", "model", "no_settings"), SECTIONS)
def test_every_setting_is_documented_and_no_other(heading, model, no_settings):
    assert set(documented(heading)) == set(fields_of(model, no_settings))


@pytest.mark.parametrize(("heading", "model", "no_settings"), SECTIONS)
def test_every_documented_default_is_the_real_one(heading, model, no_settings):
    for name, cell in documented(heading).items():
        field = fields_of(model, no_settings)[name]
        if is_required(field) or (model, name) in REQUIRED:
            assert cell == "required", name
        elif (model, name) in IN_WORDS_THERE:
            assert cell == IN_WORDS_THERE[model, name], name
        elif name in IN_WORDS and not isinstance(field.default, str | int):
            assert cell == IN_WORDS[name], name
        else:
            assert tomllib.loads(f"x = {cell.strip('`')}")["x"] == plain(field.default), name


def written(section):
    """Names that the example writes in a section, commented out or not."""
    tables = re.split(r"^\[", EXAMPLE, flags=re.MULTILINE)
    texts = [table.split("]", 1)[1] for table in tables if re.match(section + r"\]", table)]
    assert texts, section
    return set(re.findall(r"^(?:# )?([a-z0-9_]+) = ", "\n".join(texts), flags=re.MULTILINE))


@pytest.mark.parametrize(
    ("section", "model", "no_settings"),
    [
        ("server", ServerSettings, set()),
        ("state", StateSettings, set()),
        ("auth", AuthSettings, set()),
        # the table of time-outs has a header of its own
        (r"providers\.[a-z]+", ProviderSettings, {"name", "provider_key_wanted", "timeouts_s"}),
        (r"providers\.openai\.timeouts_s", TimeoutSettings, set()),
        (r"models\.[a-z0-9-]+", ModelSettings, {"alias"}),
        (r"\[models\.house-llama\.deployments\]", DeploymentSettings, set()),
        # what is a table has a header of its own
        (r"plans\.default", PlanSettings, {"name", "tenant", "user", "virtual_key", "features", "models"}),
        (r"plans\.default\.tenant", ScopeLimits, set()),
        (r"tenants\.acme", TenantSettings, {"id"}),
        ("fallback", FallbackSettings, set()),
        ("ledger", LedgerSettings, set()),
        ("admin", AdminSettings, set()),
        ("keyring", KeyringSettings, set()),
        ("cache", CacheSettings, {"features", "endpoints"}),
        (r"cache\.features\.report", CachePolicy, set()),
    ],
)
def test_the_example_writes_every_setting(section, model, no_settings):
    assert written(section) == set(fields_of(model, no_settings))


def test_what_the_example_writes_is_the_default_or_ones_own():
    document = tomllib.loads(EXAMPLE)
    own = {"default_provider", "peppers", "base_url", "provider_key", "kek"}
    pairs = [
        (document["server"], ServerSettings),
        (document["state"], StateSettings),
        (document["auth"], AuthSettings),
        (document["providers"]["openai"], ProviderSettings),
        (document["providers"]["openai"]["timeouts_s"], TimeoutSettings),
        (document["plans"]["default"], PlanSettings),
        (document["tenants"]["acme"], TenantSettings),
        (document["ledger"], LedgerSettings),
        (document["admin"], AdminSettings),
        (document["keyring"], KeyringSettings),
        (document["cache"], CacheSettings),
        (document["cache"]["features"]["report"], CachePolicy),
        (document["cache"]["endpoints"]["embeddings"], CachePolicy),
    ]
    for table, model in pairs:
        fields = fields_of(model, set())
        for name, value in table.items():
            if name not in own and not isinstance(value, dict):
                assert value == plain(fields[name].default), name
