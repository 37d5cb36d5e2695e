"""A configuration is read whole: all problems at once, nothing unknown, no secret shown."""

import base64
import hashlib
import tomllib
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.secret import Secret
from proxy.settings.load import load
from proxy.settings.model import (
    Address,
    AuthMode,
    LedgerSettings,
    NoCeiling,
    Settings,
    StateSettings,
    StreamUsage,
    TenantSettings,
    TimeoutSettings,
    TransportKind,
)
from proxy.settings.problem import SettingsError
from proxy.settings.routing import DeploymentSettings

ROOT = Path(__file__).resolve().parents[3]
PEPPER = base64.b64encode(bytes(range(32))).decode()
CANARY = "sk-canary-5f1e0c"
PLAIN_CANARY = "5f1e0cd0ba5e77e1"  # as some providers' keys, it looks like nothing in particular
OPENAI = '[providers.openai]\nbase_url = "https://api.openai.com/v1"\n'


def load_text(text, environ=None, files=None, path="/etc/tollway/t.toml"):
    stored = {} if files is None else files

    def read_file(path):
        if str(path) not in stored:
            raise FileNotFoundError(2, "No such file or directory")
        return stored[str(path)]

    return load(text, path=path, environ={} if environ is None else environ, read_file=read_file)


def problems_of(text, **kwargs):
    with pytest.raises(SettingsError) as caught:
        load_text(text, **kwargs)
    return caught.value.problems


def only_problem(text, **kwargs):
    (problem,) = problems_of(text, **kwargs)
    return problem


def test_an_empty_file_gives_the_documented_defaults():
    settings = load_text("")
    expected = Settings(version=hashlib.sha256(b"").hexdigest()[:12])
    assert settings == expected
    assert settings.auth.mode is AuthMode.VIRTUAL_KEYS


def test_every_value_arrives():
    settings = load_text(
        """
        [server]
        bind = "0.0.0.0:80"
        admin_bind = "unix:/run/admin.sock"
        body_bytes_max = 1_000
        upload_bytes_max = 2_000
        drain_s = 1.5
        workers = 1
        [state]
        journal = "/var/journal"
        lease_s = 2
        ledger_unexported_bytes_max = 3_000
        folder = "/var/lib/tollway"
        url = "redis://user:pw@redis:6380/3"
        [auth]
        mode = "trusted-headers"
        default_tenant = "house"
        default_provider = "openai"
        known_tenants_only = true
        peppers = ["env:PEPPER"]
        trusted_peers = ["10.0.0.0/8", "fd00::/8"]
        [providers.openai]
        dialect = "openai"
        base_url = "HTTPS://API.OpenAI.com/V1/"
        provider_key = "env:PROVIDER_KEY"
        timeouts_s = { connect = 1, pool = 2, first_byte = 3, idle = 4, total = 5.5 }
        transport = "httpx"
        allow_http = true
        allow_shared_state = true
        ca_file = "ca.pem"
        connections_max = 7
        catalog = "azure"
        usage_unasked = true
        [providers.sim]
        transport = "simulated"
        [models."gpt-5.1"]
        deployments = [{ provider = "openai", model = "gpt-5.1-2026" }, { provider = "sim", model = "simulated" }]
        tenants = ["acme"]
        [plans.pro]
        [tenants.acme]
        plan = "pro"
        timezone = "Europe/Berlin"
        no_ceiling = "insert"
        stream_usage = "restore"
        allow_unmetered = true
        count_own_key = true
        soft_cap_webhook = "env:HOOK"
        [ledger]
        sink = "s3://bucket/a/b"
        export_every_s = 0.5
        seal_rows_max = 10
        """,
        environ={"PEPPER": PEPPER, "PROVIDER_KEY": CANARY, "HOOK": "https://hooks.example/T0/secret?x=1"},
        files={"/etc/tollway/ca.pem": "-----BEGIN CERTIFICATE-----\n"},
    )
    assert settings.server.bind == Address("0.0.0.0", 80)
    assert settings.server.admin_bind == Address(unix_path="/run/admin.sock")
    assert (settings.server.body_bytes_max, settings.server.upload_bytes_max) == (1_000, 2_000)
    assert settings.server.drain_s == 1.5
    assert settings.state.folder == Path("/var/lib/tollway")
    assert settings.state.url == "redis://user:pw@redis:6380/3"
    auth = settings.auth
    assert (auth.mode, auth.default_tenant, auth.default_provider) == (AuthMode.TRUSTED_HEADERS, "house", "openai")
    assert auth.known_tenants_only
    assert auth.peppers == (Secret(PEPPER),)
    assert auth.trusted_peers == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    openai = settings.providers["openai"]
    assert (openai.name, openai.base_url, openai.transport) == (
        "openai",
        "https://api.openai.com/V1",
        TransportKind.HTTPX,
    )
    assert (openai.provider_key, openai.provider_key_wanted) == (Secret(CANARY), True)
    assert openai.timeouts_s == TimeoutSettings(1.0, 2.0, 3.0, 4.0, 5.5)
    assert openai.allow_http
    assert openai.allow_shared_state
    assert openai.ca_file == Path("/etc/tollway/ca.pem")
    assert openai.connections_max == 7
    simulated = settings.providers["sim"]
    assert (simulated.base_url, simulated.transport) == ("http://simulated.invalid/v1", TransportKind.SIMULATED)
    assert not simulated.provider_key_wanted
    model = settings.models["gpt-5.1"]
    assert model.deployments == (DeploymentSettings("openai", "gpt-5.1-2026"), DeploymentSettings("sim", "simulated"))
    assert model.tenants == frozenset({"acme"})
    assert settings.tenants["acme"] == TenantSettings(
        id="acme",
        plan="pro",
        timezone="Europe/Berlin",
        no_ceiling=NoCeiling.INSERT,
        stream_usage=StreamUsage.RESTORE,
        allow_unmetered=True,
        count_own_key=True,
        soft_cap_webhook=Secret("https://hooks.example/T0/secret?x=1"),
    )
    assert settings.ledger == LedgerSettings("s3://bucket/a/b", 0.5, 10)
    assert (openai.catalog, openai.usage_unasked) == ("azure", True)
    assert (settings.state.lease_s, settings.state.ledger_unexported_bytes_max) == (2, 3_000)
    assert settings.state.journal_folder == Path("/var/journal")


def test_the_journal_lies_in_the_state_folder():
    assert StateSettings(folder=Path("/var/lib/tollway")).journal_folder == Path("/var/lib/tollway/journal")


def test_a_password_and_a_key_are_in_no_repr():
    settings = load_text(
        '[state]\nurl = "redis://user:hunter2@redis:6379"\n' + OPENAI + f'provider_key = "{CANARY}"\n',
    )
    assert "hunter2" not in repr(settings)
    assert CANARY not in repr(settings)


# ── references ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("reference", "environ", "files", "expected"),
    [
        ("env:K", {"K": "v1"}, {}, "v1"),
        ("env?:K", {"K": "v1"}, {}, "v1"),
        ("env?:K", {}, {}, None),
        ("env?:K", {"K": ""}, {}, None),
        ("file:k.txt", {}, {"/etc/tollway/k.txt": "v2\n"}, "v2"),
        ("file:k.txt", {}, {"/etc/tollway/k.txt": "v2\r\n"}, "v2"),
        ("file:/run/secrets/k", {}, {"/run/secrets/k": "v3"}, "v3"),
    ],
)
def test_a_reference_is_resolved(reference, environ, files, expected):
    settings = load_text(OPENAI + f'provider_key = "{reference}"\n', environ=environ, files=files)
    provider = settings.providers["openai"]
    assert provider.provider_key == (None if expected is None else Secret(expected))
    assert provider.provider_key_wanted


def test_any_text_may_be_a_reference():
    settings = load_text(
        """
        [server]
        bind = "env:BIND"
        [auth]
        default_provider = "env?:NOBODY"
        peppers = ["env?:NOBODY", "env:PEPPER"]
        [providers.p]
        base_url = "env:URL"
        transport = "env:TRANSPORT"
        [models.m]
        deployments = [{ provider = "env:P", model = "env:P" }]
        tenants = ["env:P", "env?:NOBODY"]
        """,
        environ={"BIND": "[::1]:9", "PEPPER": PEPPER, "URL": "https://x.example/", "P": "p", "TRANSPORT": "httpx"},
    )
    assert settings.server.bind == Address("::1", 9)
    assert settings.auth.default_provider is None
    assert settings.auth.peppers == (Secret(PEPPER),)
    assert settings.providers["p"].base_url == "https://x.example"
    assert settings.providers["p"].transport is TransportKind.HTTPX
    assert settings.models["m"].deployments == (DeploymentSettings("p", "p"),)
    assert settings.models["m"].tenants == frozenset({"p"})


@pytest.mark.parametrize(
    ("reference", "environ", "files", "said"),
    [
        ("env:K", {}, {}, "not set"),
        ("env:K", {"K": ""}, {}, "empty"),
        ("env:", {}, {}, "name of an environment variable"),
        ("env?:not a name", {}, {}, "name of an environment variable"),
        ("file:", {}, {}, "a path after"),
        ("file:nowhere", {}, {}, "/etc/tollway/nowhere"),
        ("file:huge", {}, {"/etc/tollway/huge": "x" * 65_537}, "at most 65536"),
    ],
)
def test_a_reference_that_leads_nowhere_is_a_problem(reference, environ, files, said):
    problem = only_problem(OPENAI + f'provider_key = "{reference}"\n', environ=environ, files=files)
    assert problem.path == "providers.openai.provider_key"
    assert said in str(problem)


def test_a_file_that_is_no_text_is_a_problem():
    def read_file(path):
        return b"\xff".decode()

    with pytest.raises(SettingsError) as caught:
        load(OPENAI + 'provider_key = "file:k"\n', path="t.toml", environ={}, read_file=read_file)
    assert "UTF-8" in caught.value.problems[0].found


# ── problems ─────────────────────────────────────────────────────────────────────────────

REFUSED = [
    # what is written, where the problem is, what is expected, what the suggestion says
    ("[plan.default]\n", "plan", "one of server", '"plans"'),
    ("[webhooks]\nttl_s = 50\n", "webhooks", "one of server", ""),
    ("[sever]\n", "sever", "one of server", '"server"'),
    ("server = 1\n", "server", "a table", ""),
    ("[[server]]\n", "server", "a table", ""),
    ('[server]\nadmin-bnd = "x"\n', 'server."admin-bnd"', "one of bind", '"admin_bind"'),
    ('[server]\nbind = "127.0.0.1"\n', "server.bind", "an address such as", "Add the port"),
    ("[server]\nbind = 8080\n", "server.bind", "a text", ""),
    ('[server]\nbind = "127.0.0.1:1"\nadmin_bind = "127.0.0.1:1"\n', "server.admin_bind", "another address", ""),
    ('[server]\nbind = "127.0.0.1:1"\nadmin_bind = "localhost:1"\n', "server.admin_bind", "another address", ""),
    ('[server]\nbind = "0.0.0.0:1"\nadmin_bind = "127.0.0.1:1"\n', "server.admin_bind", "another address", ""),
    ('[server]\nbind = "unix:/a"\nadmin_bind = "unix:/a"\n', "server.admin_bind", "another address", ""),
    ("[server]\nbody_bytes_max = 0\n", "server.body_bytes_max", "a whole number from 1", ""),
    ("[server]\nbody_bytes_max = 1.5\n", "server.body_bytes_max", "a whole number from 1", ""),
    ("[server]\nbody_bytes_max = true\n", "server.body_bytes_max", "a whole number from 1", ""),
    ('[server]\nbody_bytes_max = "1"\n', "server.body_bytes_max", "a whole number from 1", ""),
    ("[server]\nupload_bytes_max = 0xfffffffffffffffffffffffff\n", "server.upload_bytes_max", "a whole number", ""),
    ("[server]\ndrain_s = 0\n", "server.drain_s", "a number of seconds above 0", ""),
    ("[server]\ndrain_s = nan\n", "server.drain_s", "a number of seconds above 0", ""),
    ("[server]\ndrain_s = inf\n", "server.drain_s", "a number of seconds above 0", ""),
    ("[server]\ndrain_s = false\n", "server.drain_s", "a number of seconds above 0", ""),
    ("[server]\nworkers = 0\n", "server.workers", "a whole number from 1 to 64", ""),
    ("[server]\nworkers = 65\n", "server.workers", "a whole number from 1 to 64", ""),
    ("[server]\nworkers = 2\n", "server.workers", "1, as the state is in sqlite:", 'set state.url to "redis://…"'),
    ("[state]\nlease_s = 0\n", "state.lease_s", "a whole number from 1", ""),
    ("[state]\nlease_s = 3_601\n", "state.lease_s", "a whole number from 1", ""),
    ("[state]\nlease_s = 1.5\n", "state.lease_s", "a whole number from 1", ""),
    ('[state]\njournal = ""\n', "state.journal", "a path", ""),
    ("[state]\nledger_unexported_bytes_max = 0\n", "state.ledger_unexported_bytes_max", "a whole number", ""),
    ('[state]\nfolder = ""\n', "state.folder", "a path", ""),
    ('[state]\nurl = "postgres://x"\n', "state.url", "sqlite:PATH", ""),
    ('[state]\nurl = "redis+cluster://x"\n', "state.url", "sqlite:PATH", ""),
    ('[state]\nurl = "sqlite:///x.db"\n', "state.url", "sqlite:PATH", "right after"),
    ('[auth]\nmode = "pasthrough"\n', "auth.mode", "one of virtual-keys", '"passthrough"'),
    ('[auth]\ndefault_tenant = "a b"\n', "auth.default_tenant", "a tenant id", ""),
    ('[auth]\ndefault_provider = "x"\n', "auth.default_provider", "the name of a provider", ""),
    ("[auth]\nknown_tenants_only = 1\n", "auth.known_tenants_only", "true or false", ""),
    ('[auth]\npeppers = "x"\n', "auth.peppers", "a list of texts", ""),
    ("[auth]\npeppers = [1]\n", "auth.peppers[0]", "a text", ""),
    ('[auth]\npeppers = ["AAAA"]\n', "auth.peppers[0]", "base64 of 32 bytes", "openssl"),
    ('[auth]\ntrusted_peers = ["10.0.0.1/8"]\n', "auth.trusted_peers[0]", "a network", '"10.0.0.0/8"'),
    (
        '[server]\nbind = "0.0.0.0:8080"\n[auth]\nmode = "passthrough"\nallow_keyless = true\n',
        "auth.allow_keyless",
        "false",
        "Bind to 127.0.0.1",
    ),
    (
        '[server]\nbind = "[::]:8080"\n[auth]\nmode = "trusted-headers"\n',
        "auth.trusted_peers",
        "the networks",
        "List them",
    ),
    ("[providers.a]\n", "providers.a.base_url", "a URL such as", ""),
    ('[providers."a b"]\nbase_url = "https://x"\n', 'providers."a b"', "a provider's name", ""),
    ('[providers]\na = "x"\n', "providers.a", "a table", ""),
    ('[providers.a]\nbase_url = "http://x.example/v1"\n', "providers.a.base_url", "https", "allow_http = true"),
    ('[providers.a]\nbase_url = "env?:NOPE"\n', "providers.a.base_url", "a URL such as", ""),
    (OPENAI + 'dialect = "opnai"\n', "providers.openai.dialect", "openai", '"openai"'),
    (OPENAI + 'transport = "htpx"\n', "providers.openai.transport", "one of tollway", '"httpx"'),
    (OPENAI + 'provider_key = "a b"\n', "providers.openai.provider_key", "a provider key", ""),
    (OPENAI + 'provder_key = "x"\n', "providers.openai.provder_key", "one of", '"provider_key"'),
    (OPENAI + "connections_max = -1\n", "providers.openai.connections_max", "a whole number from 1", ""),
    (OPENAI + "timeouts_s = 5\n", "providers.openai.timeouts_s", "a table", ""),
    (OPENAI + "timeouts_s = { conect = 5 }\n", "providers.openai.timeouts_s.conect", "one of connect", '"connect"'),
    (OPENAI + "timeouts_s.idle = -0.5\n", "providers.openai.timeouts_s.idle", "a number of seconds", ""),
    (
        OPENAI + 'proxy_url = "http://p:3128"\n',
        "providers.openai.proxy_url",
        "nothing, as providers.openai.transport",
        "httpx",
    ),
    (
        OPENAI + 'transport = "httpx"\nproxy_url = "socks5://u:pw@x"\n',
        "providers.openai.proxy_url",
        "the URL of a proxy",
        "",
    ),
    (
        OPENAI + 'transport = "httpx"\nproxy_url = "http://x/y"\n',
        "providers.openai.proxy_url",
        "the URL of a proxy",
        "",
    ),
    (OPENAI + 'ca_file = "no.pem"\n', "providers.openai.ca_file", "a file that can be read", ""),
    (OPENAI + "[models.m]\n", "models.m.deployments", "a list of at least one table", ""),
    (OPENAI + "[models.m]\ndeployments = []\n", "models.m.deployments", "a list of at least one table", ""),
    (OPENAI + '[models.m]\ndeployments = ["x"]\n', "models.m.deployments[0]", "a table", ""),
    (
        OPENAI + '[models."gpt-5"]\ndeployments = [{ provider = "openai", model = "x" }, { provider = "opnai", '
        'model = "x" }]\n',
        'models."gpt-5".deployments[1].provider',
        "the name of a provider",
        '"openai"',
    ),
    (
        OPENAI + '[models.m]\ndeployments = [{ provider = "openai" }]\n',
        "models.m.deployments[0].model",
        "the provider's name of a model",
        "",
    ),
    (
        OPENAI + '[models.m]\nstrategies = "fastest"\ndeployments = [{ provider = "openai", model = "x" }]\n',
        "models.m.strategies",
        "one of rules, default, deployments, tenants",
        '"strategy"',
    ),
    (
        OPENAI + '[models."a\\nb"]\ndeployments = [{ provider = "openai", model = "x" }]\n',
        'models."a\\u000Ab"',
        "a model's name",
        "",
    ),
    ("[plans.pro]\n[tenants.acme]\nplan = 'prp'\n", "tenants.acme.plan", "the name of a plan", '"pro"'),
    ("[tenants.acme]\nplans = 'pro'\n", "tenants.acme.plans", "one of residency, plan", '"plan"'),
    ("[tenants.acme]\ntimezone = 'europe/berlin'\n", "tenants.acme.timezone", "a time zone", '"Europe/Berlin"'),
    ("[tenants.acme]\nno_ceiling = 'extent'\n", "tenants.acme.no_ceiling", "one of auto, reserve", '"extend"'),
    ("[tenants.acme]\nstream_usage = 'off'\n", "tenants.acme.stream_usage", "one of auto, leave", ""),
    ("[tenants.acme]\nallow_unmetered = 1\n", "tenants.acme.allow_unmetered", "true or false", ""),
    ("[tenants.acme]\ncount_own_key = 'no'\n", "tenants.acme.count_own_key", "true or false", ""),
    ("[tenants.acme]\nsoft_cap_webhook = 'http://x.example/'\n", "tenants.acme.soft_cap_webhook", "an https URL", ""),
    ("[tenants.acme]\nqueue_weight = 1\n", "tenants.acme.queue_weight", "one of residency, plan", ""),
    ("[plans.default]\nqueue_weight = 0\n", "plans.default.queue_weight", "a whole number from 1 to 1000", ""),
    ("[plans.default]\nsoft_cap_pct = 0\n", "plans.default.soft_cap_pct", "a whole number from 1 to 100", ""),
    ("[plans.default]\nsoft_cap_pct = 101\n", "plans.default.soft_cap_pct", "a whole number from 1 to 100", ""),
    ("[plans.default]\nusd_per_day = 1\n", "plans.default.usd_per_day", "one of soft_cap_pct", ""),
    ("[plans.default]\ntenant = 5\n", "plans.default.tenant", "a table", ""),
    ("[plans.default.features]\nreport = 5\n", "plans.default.features.report", "a table", ""),
    ('[plans.default.features."a\\tb"]\n', 'plans.default.features."a\\u0009b"', "a feature's name", ""),
    ('[plans.default.models."a b"]\n', 'plans.default.models."a b"', "a model's name", ""),
    ('[plans."a b"]\n', 'plans."a b"', "a plan's name", ""),
    ("[ledger]\nsink = 's3://Bucket/x'\n", "ledger.sink", "folder:PATH", ""),
    ("[ledger]\nsink = 'folder://x'\n", "ledger.sink", "folder:PATH", "right after"),
    ("[ledger]\nexport_every_s = 0\n", "ledger.export_every_s", "a number of seconds", ""),
    ("[ledger]\nseal_rows_max = 0\n", "ledger.seal_rows_max", "a whole number from 1", ""),
    (OPENAI + "catalog = 'a/b'\n", "providers.openai.catalog", "a catalogue's name", ""),
    (OPENAI + "usage_unasked = 'yes'\n", "providers.openai.usage_unasked", "true or false", ""),
    ('[tenants."a/b"]\n', 'tenants."a/b"', "a tenant id", ""),
    ("[tenants]\nacme = 2026-01-01\n", "tenants.acme", "a table", ""),
]


@pytest.mark.parametrize(("text", "path", "expected", "suggestion"), REFUSED)
def test_what_cannot_be_is_refused(text, path, expected, suggestion):
    problem = only_problem(text)
    assert problem.path == path
    assert problem.expected.startswith(expected)
    assert suggestion in (problem.suggestion or "")


def test_all_problems_are_reported_at_once():
    text = """
    unknown = 1
    [server]
    bind = "nowhere"
    workers = 65
    [auth]
    mode = "none"
    default_provider = "nobody"
    [providers.a]
    base_url = "ftp://x"
    connections_max = 0
    [models.m]
    deployments = [{ provider = "b", model = "" }]
    [tenants.acme]
    usd_per_day = 5.00
    """
    assert [problem.path for problem in problems_of(text)] == [
        "unknown",
        "server.bind",
        "server.workers",
        "auth.mode",
        "auth.default_provider",
        "providers.a.base_url",
        "providers.a.connections_max",
        "models.m.deployments[0].provider",
        "models.m.deployments[0].model",
        "tenants.acme.usd_per_day",
    ]


def test_one_mistake_is_one_problem():
    # The provider cannot be read, but stands there: a model that names it is not wrong too.
    text = '[providers]\na = 1\n[models.m]\ndeployments = [{ provider = "a", model = "x" }]\n'
    assert only_problem(text).path == "providers.a"
    # An address that cannot be read is not compared with the other one.
    assert only_problem('[server]\nbind = "x"\nadmin_bind = "127.0.0.1:8080"\n').path == "server.bind"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("[server]\nbind = 127.0.0.1\n", "line 2, column 13"),  # 127.0 is a number; what follows is none
        ("a = 1\na = 2\n", "line 2, column 6"),
        ('a = "unfinished', "end of document"),
        ("a = " + "[" * 100_000, "the whole text"),
        ("a = " + "9" * 5_000, "the whole text"),
    ],
)
def test_a_syntax_error_says_where(text, path):
    problem = only_problem(text)
    assert problem.path == path
    assert problem.expected == "TOML"


@pytest.mark.parametrize("bind", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1", "unix:/a"])
@pytest.mark.parametrize("auth", ['mode = "passthrough"\nallow_keyless = true', 'mode = "trusted-headers"'])
def test_where_only_this_machine_connects_it_may_be_trusted(bind, auth):
    assert load_text(f'[server]\nbind = "{bind}"\n[auth]\n{auth}\n').server.bind.is_local


def test_listed_peers_may_be_trusted_from_afar():
    text = '[server]\nbind = "0.0.0.0:1"\n[auth]\nmode = "trusted-headers"\ntrusted_peers = ["10.0.0.0/8"]\n'
    assert load_text(text).auth.trusted_peers == (ip_network("10.0.0.0/8"),)


@pytest.mark.parametrize(
    "text",
    [
        '[server]\nbind = "127.0.0.1:0"\nadmin_bind = "127.0.0.1:0"\n',
        "[server]\nbody_bytes_max = 1_073_741_824\nupload_bytes_max = 1_099_511_627_776\ndrain_s = 86_400\n",
        '[server]\nbind = "0.0.0.0:80"\n[auth]\nallow_keyless = true\n',  # it does nothing in this mode
        '[providers.s]\ntransport = "simulated"\nbase_url = "http://simulated.invalid/v1"\n',  # no network
        '[providers.p]\nbase_url = "http://x.example"\nallow_http = true\n',
        OPENAI + "connections_max = 100_000\n",
    ],
)
def test_what_is_at_the_edge_of_the_allowed_is_allowed(text):
    assert isinstance(load_text(text), Settings)


@pytest.mark.parametrize(
    "line",
    ["body_bytes_max = 1_073_741_825", "upload_bytes_max = 1_099_511_627_777", "drain_s = 86_400.001", "workers = 0"],
)
def test_what_is_beyond_it_is_not(line):
    assert only_problem(f"[server]\n{line}\n").path == f"server.{line.split()[0]}"


# ── no secret is shown ───────────────────────────────────────────────────────────────────

LEAKS = [
    f'provider_key = "{CANARY} with a space"',
    f'provder_key = "{CANARY}"',
    f'provider_key = ["{CANARY}"]',
    f'provider_key = {{ value = "{CANARY}" }}',
    f'dialect = "{CANARY}"',
    f'transport = "{CANARY}"',
    f'connections_max = "{CANARY}"',
    f'timeouts_s = "{CANARY}"',
    'dialect = "env:CANARY"',
    'ca_file = "file:secret.txt"',
    'provider_key = "file:secret-lines.txt"',
    f'provider_key = "env:{CANARY}"',
    f'provider_key = "{CANARY}',
    f'provider_key = "{PLAIN_CANARY} with a space"',
    f'provider_key = "{PLAIN_CANARY}\\n"',
    f'connections_max = "{PLAIN_CANARY * 4}"',
]


@pytest.mark.parametrize("line", LEAKS)
def test_no_problem_shows_a_secret(line):
    problems = problems_of(
        OPENAI + line + "\n",
        environ={"CANARY": CANARY},
        files={"/etc/tollway/secret.txt": "ca.pem", "/etc/tollway/secret-lines.txt": f"{CANARY}\nx"},
    )
    said = "".join(map(str, problems))
    assert CANARY not in said
    assert PLAIN_CANARY not in said


@pytest.mark.parametrize(
    "url",
    [
        f"https://user:{CANARY}@x.example/v1",
        f"https://x.example/v1?key={CANARY}",
        f"https://x.example:{CANARY}/v1",
        f"https://x.example/v1 {CANARY}",
        f"http://x.example/{CANARY}",
        f"{CANARY}://x",
    ],
)
def test_no_problem_shows_what_a_url_hides(url):
    assert CANARY not in str(only_problem(f'[providers.a]\nbase_url = "{url}"\n'))


@pytest.mark.parametrize(
    "text",
    [
        f'[state]\nurl = "redis://:{CANARY}@h:99999"\n',
        f'[state]\nurl = "redis://h/0?password={CANARY}"\n',
        f'[auth]\npeppers = ["{CANARY}"]\n',
        f'[auth]\npeppers = ["{PLAIN_CANARY}"]\n',
        f'[tenants.a]\nsoft_cap_webhook = "http://hooks.example/{CANARY}"\n',
        f'[tenants.a]\nsoft_cap_webhook = "https://u:{CANARY}@hooks.example/"\n',
        f'[tenants.a]\nsoft_cap_webhook = "{PLAIN_CANARY}"\n',
        f'[plans.default.tenant]\nusd_per_day = "{PLAIN_CANARY}"\n',
        '[auth]\ndefault_provider = "env:C"\n',
    ],
)
def test_no_problem_of_another_section_shows_a_secret(text):
    said = str(only_problem(text, environ={"C": CANARY}))
    assert CANARY not in said
    assert PLAIN_CANARY not in said


def test_a_secret_in_the_file_is_a_warning_that_does_not_show_it():
    settings = load_text(OPENAI + f'provider_key = "{CANARY}"\n')
    (warning,) = settings.warnings
    assert warning.startswith("providers.openai.provider_key stands in the file")
    assert CANARY not in warning


# ── both files that ship ─────────────────────────────────────────────────────────────────


def load_shipped(name, environ):
    path = ROOT / "config" / name
    return load(path.read_text(), path=str(path), environ=environ, read_file=Path.read_text)


def test_the_quickstart_needs_nothing():
    settings = load_shipped("quickstart.toml", {})
    assert settings.warnings == ()
    assert settings.auth.mode is AuthMode.PASSTHROUGH
    assert settings.auth.allow_keyless
    assert settings.auth.default_provider == "openai"
    assert settings.server.bind.is_local
    assert set(settings.providers) == {"openai", "anthropic", "gemini", "simulated"}
    assert [provider.provider_key for provider in settings.providers.values()] == [None] * 4
    faults = {"slow", "429", "500", "hang", "reset", "malformed"}
    assert {"simulated", "simulated-embedding", *(f"simulated-{fault}" for fault in faults)} < set(settings.models)


def test_the_quickstart_takes_the_keys_that_are_there():
    settings = load_shipped("quickstart.toml", {"ANTHROPIC_API_KEY": "a", "GEMINI_API_KEY": "g", "OPENAI_API_KEY": "o"})
    found = {name: provider.provider_key for name, provider in settings.providers.items()}
    assert found == {"openai": Secret("o"), "anthropic": Secret("a"), "gemini": Secret("g"), "simulated": None}


def test_the_production_example_loads_without_a_warning():
    environ = {"TOLLWAY_PEPPER": PEPPER, "OPENAI_API_KEY": "o", "HOUSE_PROVIDER_KEY": "h"}
    settings = load_shipped("production.toml", environ)
    assert settings.warnings == ()
    assert settings.providers["openai"].timeouts_s == TimeoutSettings()


# ── nothing else is ever raised ──────────────────────────────────────────────────────────

NAMES = st.sampled_from(
    [
        *("server", "state", "auth", "providers", "models", "tenants", "bind", "admin_bind", "workers", "drain_s"),
        *("folder", "url", "mode", "peppers", "allow_keyless", "default_provider", "trusted_peers", "base_url"),
        *("provider_key", "timeouts_s", "transport", "ca_file", "connections_max", "deployments", "provider", "model"),
        *("proxy_url", "dialect", "a", "gpt-5", "plans", "ledger", "tenant", "features", "plan", "timezone", "price"),
        *("usd_per_day", "requests_per_minute", "burst", "input_usd_per_mtok", "capabilities", "soft_cap_webhook"),
        *("default", "sink", "lease_s", "soft_cap_pct"),
    ]
)
TEXTS = st.text(max_size=20) | st.sampled_from(
    [
        *("openai", "a", "http://x", "https://x/v1", "https://[::1", "http://x:99999", "://", "sqlite:x", "redis://h"),
        *("env:A", "env?:B", "env:", "file:f", "file:", "file:a\nb", "file:\0", "127.0.0.1:1", "[::1]:0", "unix:x"),
        *("passthrough", "trusted-headers", "simulated", "10.0.0.0/8"),
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.dates() | st.times(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


def quoted(text):
    escaped = "".join(c if c.isalnum() or c in " -_" else f"\\U{ord(c):08X}" for c in text)
    return f'"{escaped}"'


def to_toml(value):
    if value is None:
        return '""'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(name)} = {to_toml(item)}" for name, item in value.items()) + "}"
    return value.isoformat() if hasattr(value, "isoformat") else repr(value)


def settings_or_problems(text):
    try:
        settings = load_text(text, environ={"A": "value"}, files={"/etc/tollway/f": "text"})
    except SettingsError as error:
        settings = error
    if isinstance(settings, SettingsError):
        assert settings.problems
        assert all("\n" not in str(problem) for problem in settings.problems)
    else:
        assert isinstance(settings, Settings)


@given(st.dictionaries(NAMES | st.text(max_size=5), VALUES, max_size=6))
def test_any_document_gives_settings_or_problems(document):
    text = "\n".join(f"{quoted(name)} = {to_toml(value)}" for name, value in document.items())
    tomllib.loads(text)  # what this test writes is TOML, so that it gets past the syntax
    settings_or_problems(text)


@given(
    st.dictionaries(NAMES, TEXTS | VALUES, max_size=6),
    st.sampled_from(
        (
            "server",
            "state",
            "auth",
            "providers.a",
            "models.a",
            "tenants.a",
            "providers.a.timeouts_s",
            "ledger",
            "plans.a.tenant",
            "plans.default",
        )
    ),
)
def test_any_section_gives_settings_or_problems(section, where):
    settings_or_problems(f"[{where}]\n" + "\n".join(f"{name} = {to_toml(value)}" for name, value in section.items()))


@given(st.text())
def test_any_text_gives_settings_or_problems(text):
    settings_or_problems(text)


@pytest.mark.parametrize(
    ("header", "hint"),
    [
        ("models.gpt-4.1", '[models."gpt-4.1"]'),
        ("models.claude-3.5.1", '[models."claude-3.5.1"]'),
        ("plans.default.models.gpt-4.1", '[plans.default.models."gpt-4.1"]'),
        ("tenants.acme.eu", '[tenants."acme.eu"]'),
    ],
)
def test_a_name_with_a_dot_is_told_to_stand_in_quotes(header, hint):
    with pytest.raises(SettingsError) as raised:
        load(f"[{header}]\nx = 1\n", path="t.toml", environ={}, read_file=Path.read_text)
    suggestions = [problem.suggestion for problem in raised.value.problems]
    assert f"A name with a dot stands in quotes: {hint}." in suggestions


@pytest.mark.parametrize("text", ["[tenants.acme.cachee]\n", "[modelz.a]\n", "[models.m]\ncolour = 1\n"])
def test_other_unknown_names_are_not(text):
    with pytest.raises(SettingsError) as raised:
        load(text, path="t.toml", environ={}, read_file=Path.read_text)
    assert "quotes" not in str(raised.value)
