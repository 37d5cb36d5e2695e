"""Which answers are kept, as the file says it: what arrives, what is refused, what does nothing."""

import pytest

from proxy.dialects.openai import OPERATION_NAMES
from proxy.settings.caching import (
    CACHED_ENDPOINTS,
    CacheMode,
    CachePolicy,
    CacheSettings,
    CacheShare,
    in_words,
)
from proxy.settings.load import load
from proxy.settings.model import StateSettings
from proxy.settings.problem import SettingsError

PROVIDER = '[providers.openai]\nbase_url = "https://api.openai.com/v1"\n'
MODEL = PROVIDER + '[models.m]\ndeployments = [{ provider = "openai", model = "x" }]\n'
ON = '{ mode = "all" }'
REDIS = "redis://:s3cret-word@cache.example"


def load_text(text, environ=None):
    def read_file(path):
        raise FileNotFoundError(2, "No such file or directory")

    return load(text, path="/etc/tollway/t.toml", environ=environ or {}, read_file=read_file)


def problems_of(text, environ=None):
    with pytest.raises(SettingsError) as caught:
        load_text(text, environ)
    return caught.value.problems


def test_nothing_is_kept_until_something_says_so():
    settings = load_text(MODEL + "[tenants.acme]\n")
    assert settings.cache == CacheSettings()
    assert load_text("[cache]\n").cache == CacheSettings()
    assert settings.models["m"].cache is None
    assert settings.tenants["acme"].cache is None
    assert settings.state.cache_url is None


def test_every_value_arrives():
    settings = load_text(
        MODEL
        + 'cache = { mode = "all", ttl_s = 1, share = "virtual_key", events_per_s = 10_000 }\n'
        + """
        [tenants.acme]
        cache = { mode = "deterministic", ttl_s = 2_592_000, share = "user", events_per_s = 1 }
        [tenants.zoo]
        cache = { mode = "off" }
        [state]
        cache_url = "rediss://cache.example/3"
        [cache]
        memory_bytes_max = 0
        file_bytes_max = 1_048_576
        entry_bytes_max = 1_024
        wait_s = 0.5
        [cache.features.report]
        mode = "all"
        share = "tenant"
        [cache.features."nightly run"]
        mode = "off"
        [cache.endpoints]
        embeddings = { mode = "deterministic", ttl_s = 86_400 }
        """
    )
    assert settings.models["m"].cache == CachePolicy(CacheMode.ALL, 1, CacheShare.VIRTUAL_KEY, 10_000)
    tenants = settings.tenants
    assert tenants["acme"].cache == CachePolicy(CacheMode.DETERMINISTIC, 2_592_000, CacheShare.USER, 1)
    assert tenants["zoo"].cache == CachePolicy(CacheMode.OFF, 3_600, CacheShare.TENANT, None)
    assert settings.state.cache_url == "rediss://cache.example/3"
    assert settings.cache == CacheSettings(
        memory_bytes_max=0,
        file_bytes_max=1 << 20,
        entry_bytes_max=1_024,
        wait_s=0.5,
        features={"report": CachePolicy(CacheMode.ALL), "nightly run": CachePolicy(CacheMode.OFF)},
        endpoints={"embeddings": CachePolicy(CacheMode.DETERMINISTIC, 86_400)},
    )


@pytest.mark.parametrize(
    ("written", "name", "expected"),
    [
        ("memory_bytes_max = 1_099_511_627_776", "memory_bytes_max", 1 << 40),
        ("file_bytes_max = 17_592_186_044_416", "file_bytes_max", 1 << 44),
        ("entry_bytes_max = 67_108_864", "entry_bytes_max", 1 << 26),
        ("wait_s = 0", "wait_s", 0.0),
        ("wait_s = 0.0", "wait_s", 0.0),
        ("wait_s = 300", "wait_s", 300.0),
    ],
)
def test_a_bound_is_within(written, name, expected):
    assert getattr(load_text(f"[cache]\n{written}\n").cache, name) == expected


def test_the_endpoints_are_those_whose_answers_can_be_kept():
    text = "[cache.endpoints]\n" + "".join(f"{name} = {ON}\n" for name in CACHED_ENDPOINTS)
    assert tuple(load_text(text).cache.endpoints) == CACHED_ENDPOINTS
    assert set(CACHED_ENDPOINTS) < OPERATION_NAMES


def test_in_words_it_is_called_as_in_the_file():
    policy = CachePolicy(CacheMode.ALL, 60, CacheShare.USER, 50)
    assert in_words(policy) == {"mode": "all", "ttl_s": 60, "share": "user", "events_per_s": 50}
    assert in_words(None) is None


# ── where kept answers are ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize("url", ["none", "sqlite:answers.db", "sqlite:/var/cache/answers.db", "redis://h:6379/1"])
def test_a_cache_url(url):
    assert load_text(f'[state]\ncache_url = "{url}"\n').state.cache_url == url
    assert load_text('[state]\ncache_url = "env:CACHE"\n', {"CACHE": url}).state.cache_url == url


def test_a_cache_url_behind_a_variable_that_may_be_absent():
    assert load_text('[state]\ncache_url = "env?:CACHE"\n').state.cache_url is None


def test_a_cache_url_is_not_shown():
    assert "s3cret-word" not in repr(load_text(f'[state]\ncache_url = "{REDIS}"\n'))


@pytest.mark.parametrize(
    ("url", "cache_url", "kept_url", "shown"),
    [
        ("sqlite:tollway.db", None, "sqlite:cache.db", "sqlite:cache.db"),
        (REDIS, None, "none", "none"),  # never beside money
        ("sqlite:tollway.db", "none", "none", "none"),
        (REDIS, "sqlite:answers.db", "sqlite:answers.db", "sqlite:answers.db"),
        ("sqlite:tollway.db", REDIS, REDIS, "redis://cache.example"),
    ],
)
def test_where_kept_answers_are(url, cache_url, kept_url, shown):
    state = StateSettings(url=url, cache_url=cache_url)
    assert (state.kept_url, state.shown_kept_url) == (kept_url, shown)


@pytest.mark.parametrize(
    ("state", "environ"),
    [
        ('cache_url = "sqlite:tollway.db"', {}),  # that of a state whose URL is not written
        ('url = "sqlite:a.db"\ncache_url = "sqlite:a.db"', {}),
        ('url = "sqlite:a.db"\ncache_url = "sqlite:./a.db"', {}),
        ('folder = "/var/lib"\nurl = "sqlite:a.db"\ncache_url = "sqlite:/var/lib/a.db"', {}),
        (f'url = "{REDIS}"\ncache_url = "{REDIS}"', {}),
        (f'url = "{REDIS}"\ncache_url = "{REDIS}:6379/0"', {}),  # the same database, in other words
        (f'url = "{REDIS}/0"\ncache_url = "redis://another@CACHE.example/"', {}),
        (f'url = "{REDIS}/0"\ncache_url = "{REDIS}/1"', {}),  # a server has one memory for all of its databases
        ('url = "env:STATE"\ncache_url = "env:CACHE"', {"STATE": REDIS, "CACHE": REDIS}),
        ('url = "sqlite:cache.db"', {}),  # where kept answers would be, as nothing else is written
    ],
)
def test_a_cache_does_not_lie_among_what_has_to_last(state, environ):
    (problem,) = problems_of(f"[state]\n{state}\n", environ)
    assert (problem.path, problem.expected) == ("state.cache_url", "another place than state.url")
    assert problem.found == ("the same" if "cache_url" in state else "nothing, which stands for sqlite:cache.db")
    assert problem.suggestion == (
        "What a cache may throw away must not lie where nothing may be lost: name another server, or a SQLite file."
    )
    assert "s3cret-word" not in str(problem)


@pytest.mark.parametrize(
    "state",
    [
        f'url = "{REDIS}"\ncache_url = "{REDIS}:6380"',
        f'url = "{REDIS}"\ncache_url = "redis://other.example"',
        f'url = "{REDIS}"\ncache_url = "sqlite:cache.db"',
        f'url = "{REDIS}"\ncache_url = "none"',
        f'url = "{REDIS}"',
        'url = "sqlite:cache.db"\ncache_url = "none"',
    ],
)
def test_another_file_or_server_will_do(state):
    load_text(f"[state]\n{state}\n")


# ── problems ─────────────────────────────────────────────────────────────────────────────

MODES, SHARES = "one of off, deterministic, all", "one of tenant, user, virtual_key"
WHERE = [
    # a table's heading and what stands before it, where its problems are
    ("[tenants.acme]\ncache = {}\n", "tenants.acme.cache"),
    (MODEL + "cache = {}\n", "models.m.cache"),
    ("[cache.features]\nreport = {}\n", "cache.features.report"),
    ("[cache.endpoints]\nembeddings = {}\n", "cache.endpoints.embeddings"),
]
REFUSED_WITHIN = [
    # what is written, which member, what is expected, what is suggested
    ("{ }", "mode", MODES, ""),
    ("{ ttl_s = 5 }", "mode", MODES, ""),
    ('{ mode = "al" }', "mode", MODES, '"all"'),
    ("{ mode = true }", "mode", "a text", ""),
    ('{ mode = "env?:NOT_SET" }', "mode", MODES, ""),
    *((f'{{ mode = "all", ttl_s = {n} }}', "ttl_s", "from 1 to 2592000", "") for n in ("0", "2_592_001", "1.5")),
    ('{ mode = "all", ttl_s = true }', "ttl_s", "a whole number", ""),
    ('{ mode = "all", ttl_s = "60" }', "ttl_s", "a whole number", ""),
    ('{ mode = "all", share = "users" }', "share", SHARES, '"user"'),
    ('{ mode = "all", share = 1 }', "share", "a text", ""),
    *((f'{{ mode = "all", events_per_s = {n} }}', "events_per_s", "from 1 to 10000", "") for n in ("0", "10_001")),
    ('{ mode = "all", events_per_s = 0.5 }', "events_per_s", "a whole number", ""),
    ('{ mode = "all", tll_s = 5 }', "tll_s", "one of mode, ttl_s, share, events_per_s", '"ttl_s"'),
]


@pytest.mark.parametrize(("text", "where"), WHERE)
@pytest.mark.parametrize(("written", "name", "expected", "suggestion"), REFUSED_WITHIN)
def test_what_is_no_policy_is_refused(text, where, written, name, expected, suggestion):
    (problem,) = problems_of(text.replace("{}", written))
    assert problem.path == f"{where}.{name}"
    assert expected in problem.expected
    assert suggestion in (problem.suggestion or "")


@pytest.mark.parametrize(("text", "where"), WHERE)
@pytest.mark.parametrize("written", ['"all"', "true", "[]"])
def test_a_policy_is_a_table(text, where, written):
    (problem,) = problems_of(text.replace("{}", written))
    assert (problem.path, problem.expected) == (where, "a table")


REFUSED = [
    # what is written, where the problem is, what is expected, what is suggested
    ("cache = 1\n", "cache", "a table", ""),
    ("[cache]\nmemory_bytes_max = -1\n", "cache.memory_bytes_max", "from 0 to 1099511627776", ""),
    ("[cache]\nmemory_bytes_max = 1_099_511_627_777\n", "cache.memory_bytes_max", "from 0 to 1099511627776", ""),
    ("[cache]\nfile_bytes_max = 1_048_575\n", "cache.file_bytes_max", "from 1048576 to 17592186044416", ""),
    ("[cache]\nfile_bytes_max = 17_592_186_044_417\n", "cache.file_bytes_max", "from 1048576 to 17592186044416", ""),
    ("[cache]\nentry_bytes_max = 1_023\n", "cache.entry_bytes_max", "from 1024 to 67108864", ""),
    ("[cache]\nentry_bytes_max = 67_108_865\n", "cache.entry_bytes_max", "from 1024 to 67108864", ""),
    *(
        (f"[cache]\nwait_s = {wait}\n", "cache.wait_s", "a number of seconds from 0 to 300", "")
        for wait in ("-1", "-0.001", "300.5", "nan", "inf", "true", '"30"')
    ),
    ("[cache]\nttl_s = 5\n", "cache.ttl_s", "one of memory_bytes_max", ""),
    ("[cache]\nfeature = {}\n", "cache.feature", "one of memory_bytes_max", '"features"'),
    ("[cache]\nfeatures = []\n", "cache.features", "a table", ""),
    ("[cache]\nendpoints = 1\n", "cache.endpoints", "a table", ""),
    (f'[cache.features]\n"" = {ON}\n', 'cache.features.""', "a feature's name", ""),
    (f'[cache.features]\n"a\\nb" = {ON}\n', r'cache.features."a\u000Ab"', "a feature's name", ""),
    (f"[cache.endpoints]\nembedings = {ON}\n", "cache.endpoints.embedings", "one of chat_completions", '"embeddings"'),
    (
        f"[cache.endpoints]\nchat-completions = {ON}\n",
        'cache.endpoints."chat-completions"',
        "one of",
        '"chat_completions"',
    ),
    (f"[cache.endpoints]\nimages = {ON}\n", "cache.endpoints.images", "audio_speech", ""),
    ("[tenants.acme]\ncaches = {}\n", "tenants.acme.caches", "one of", '"cache"'),
    ("[state]\ncache_url = 1\n", "state.cache_url", "a text", ""),
    ('[state]\ncache_url = ""\n', "state.cache_url", "or none", ""),
    ('[state]\ncache_url = "None"\n', "state.cache_url", "or none", ""),
    ('[state]\ncache_url = "sqlite:"\n', "state.cache_url", "sqlite:PATH", ""),
    ('[state]\ncache_url = "sqlite://a.db"\n', "state.cache_url", "sqlite:PATH", "right after"),
    ('[state]\ncache_url = "https://cache.example"\n', "state.cache_url", "redis://host:6379/0", ""),
    (f'[state]\ncache_url = "{REDIS}?db=1"\n', "state.cache_url", "without a query", ""),
    (f'[state]\ncache_url = "{REDIS}/x"\n', "state.cache_url", "the number of a database", ""),
    ('[state]\ncache_url = "env:CACHE"\n', "state.cache_url", "the environment variable CACHE", "env?:CACHE"),
]


@pytest.mark.parametrize(("text", "where", "expected", "suggestion"), REFUSED)
def test_what_cannot_be_is_refused(text, where, expected, suggestion):
    (problem,) = problems_of(text)
    assert problem.path == where
    assert expected in problem.expected
    assert suggestion in (problem.suggestion or "")
    assert "s3cret-word" not in str(problem)


# ── what is legal and does nothing ───────────────────────────────────────────────────────

RULED = MODEL + '[models.auto]\ndefault = "m"\n'
NOWHERE = "[cache]\nmemory_bytes_max = 0\n"
UNWISE = [
    (f"[tenants.acme]\nzero_retention = true\ncache = {ON}\n", "tenants.acme.cache does nothing with zero_retention"),
    (RULED + f"cache = {ON}\n", "models.auto.cache does nothing"),
    (f'[state]\ncache_url = "none"\n{NOWHERE}endpoints.embeddings = {ON}\n', "cache.memory_bytes_max is 0"),
    (f'[state]\nurl = "{REDIS}"\n{NOWHERE}endpoints.embeddings = {ON}\n', "cache.memory_bytes_max is 0"),
]


@pytest.mark.parametrize(("text", "said"), UNWISE)
def test_what_does_nothing_is_told(text, said):
    assert [warning for warning in load_text(text).warnings if said in warning]


IN_FEATURE, IN_ENDPOINTS = f"[cache.features]\nreport = {ON}\n", f"[cache.endpoints]\nembeddings = {ON}\n"
IN_MODEL, IN_TENANT = f"{MODEL}cache = {ON}\n", f"[tenants.default]\ncache = {ON}\n"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (IN_FEATURE, "cache.features.report does"),
        (IN_MODEL, "models.m.cache does"),
        (IN_ENDPOINTS, "cache.endpoints.embeddings does"),
        (IN_TENANT, "tenants.default.cache does"),
        (IN_MODEL + IN_TENANT, "models.m.cache and tenants.default.cache do"),
        (
            IN_FEATURE + IN_MODEL + IN_TENANT,
            "cache.features.report, models.m.cache and tenants.default.cache do",
        ),
        (
            IN_FEATURE + IN_ENDPOINTS + f"responses = {ON}\n" + IN_MODEL + IN_TENANT,
            "cache.features.report, models.m.cache, cache.endpoints.embeddings and 2 more do",
        ),
    ],
)
def test_in_passthrough_what_does_nothing_is_told_at_once_with_what_to_do(written, said):
    warnings = load_text('[auth]\nmode = "passthrough"\n' + written).warnings
    it = "it" if said.endswith("does") else "them"
    assert [each for each in warnings if "cache" in each] == [
        f'{said} nothing: in mode "passthrough" no answer is kept. Remove {it}, or choose another auth.mode.'
    ]


@pytest.mark.parametrize(
    "text",
    [
        '[tenants.acme]\nzero_retention = true\ncache = { mode = "off" }\n',
        "[tenants.acme]\nzero_retention = true\n",
        MODEL + f"cache = {ON}\n",
        f"{NOWHERE}endpoints.embeddings = {ON}\n",  # there is the file
        f'[state]\nurl = "{REDIS}"\ncache_url = "{REDIS}:6380"\n{NOWHERE}endpoints.embeddings = {ON}\n',
        f'[state]\ncache_url = "none"\n{NOWHERE}',
        '[auth]\nmode = "passthrough"\ndefault_provider = "openai"\n' + MODEL + 'cache = { mode = "off" }\n',
    ],
)
def test_nothing_is_told_without_a_cause(text):
    assert [warning for warning in load_text(text).warnings if "cache" in warning] == []
