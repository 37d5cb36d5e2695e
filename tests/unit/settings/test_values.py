"""What a text may say, as tables."""

import base64

import pytest

from proxy.settings import values
from proxy.settings.model import Address
from proxy.settings.values import (
    Mismatch,
    is_https_or_loopback,
    parse_address,
    parse_base_url,
    parse_feature_name,
    parse_model_name,
    parse_network,
    parse_pepper,
    parse_plan_name,
    parse_provider_key,
    parse_provider_name,
    parse_sink,
    parse_state_url,
    parse_tenant_id,
    parse_time_zone,
    parse_webhook_url,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("0.0.0.0:0", Address("0.0.0.0", 0)),
        ("[::1]:8080", Address("::1", 8080)),
        ("[0:0:0:0:0:0:0:1]:65535", Address("::1", 65_535)),
        ("localhost:1", Address("localhost", 1)),
        ("unix:/run/t.sock", Address(unix_path="/run/t.sock")),
    ],
)
def test_an_address(text, expected):
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "8080", ":8080", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:８０"),
        *("::1:8080", "[::1]", "[127.0.0.1]:80", "[::1:80", "*:80", "unix:", "unix:a\0b", "unix:/" + "x" * 103),
        "127.evil.example:80",  # begins like loopback, and leads anywhere
        *("example.com:80", "localhost.evil.example:80", "127.0.0.1:080000", "127.1:80"),
    ],
)
def test_no_address(text):
    with pytest.raises(Mismatch):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1///", "https://api.openai.com/v1"),
        ("https://api.openai.com", "https://api.openai.com"),
        ("https://api.openai.com/", "https://api.openai.com"),
        ("HTTPS://Api.OpenAI.com:8443/V1", "https://api.openai.com:8443/V1"),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        ("https://x.example/v1beta/openai/", "https://x.example/v1beta/openai"),
    ],
)
def test_a_base_url(text, expected):
    assert parse_base_url(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "api.openai.com/v1", "ftp://x", "https://", "https:///v1", "https://:443/v1", "file:///etc/passwd"),
        *("https://user@x/v1", "https://user:pw@x/v1", "https://@x/v1", "https://x/v1?a=b", "https://x/v1?"),
        *("https://x/v1#f", "https://x/v1#", "https://x/../v1", "https://x/./v1", "https://x//v1", "https://x/a\\b"),
        *("https://x:0/v1", "https://x:65536", "https://x:a", "https://[::1/v1", "https://[x]/v1", "https://x y/v1"),
        *("https://x/v1\n", "https://x\t/v1", "https://bücher.example/v1", "https://x%2fy/v1", "https://-x/v1"),
        "https://" + "x" * 3_000,
    ],
)
def test_no_base_url(text):
    with pytest.raises(Mismatch):
        parse_base_url(text)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://x.example", True),
        ("http://localhost:1/v1", True),
        ("http://127.8.8.8/v1", True),
        ("http://[::1]/v1", True),
        ("http://x.example", False),
        ("http://10.0.0.1", False),
        ("http://127.0.0.1.nip.io", False),
        ("http://localhost.example", False),
        ("http://0.0.0.0", False),
    ],
)
def test_who_can_read_the_key_on_the_way(url, expected):
    assert is_https_or_loopback(url) is expected


@pytest.mark.parametrize(
    "text",
    [
        *("sqlite:tollway.db", "sqlite:/var/lib/t.db", "redis://h", "redis://h:6379/0", "rediss://u:p%40@h:1/15"),
        *("redis://:pw@[::1]:6379", "redis://h/"),
    ],
)
def test_a_state_url(text):
    assert parse_state_url(text) == text


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "tollway.db",
            "sqlite:",
            "sqlite://x.db",
            "sqlite:a\0b",
            "redis:",
            "redis://",
            "redis://h/a",
            "redis://h/0/1",
        ),
        *(
            "redis://h?ssl_cert_reqs=none",
            "rediss://h/0?ssl_cert_reqs=none",
            "redis://h#x",
            "redis+sentinel://h",
            "h:6379",
        ),
    ],
)
def test_no_state_url(text):
    with pytest.raises(Mismatch):
        parse_state_url(text)


def test_a_pepper_is_base64_of_32_bytes():
    text = base64.b64encode(b"p" * 32).decode()
    assert parse_pepper(text).reveal() == text


@pytest.mark.parametrize(
    "text",
    ["", "x", "é" * 44, base64.b64encode(b"p" * 31).decode(), base64.b64encode(b"p" * 33).decode(), "A" * 43, "!" * 44],
)
def test_no_pepper(text):
    with pytest.raises(Mismatch):
        parse_pepper(text)


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_tenant_id, ""),
        (parse_tenant_id, "a" * 65),
        (parse_tenant_id, "a\n"),
        (parse_tenant_id, "{a}"),
        (parse_provider_name, "a/b"),
        (parse_provider_name, "a\n"),
        (parse_provider_name, ""),
        (parse_model_name, ""),
        (parse_model_name, "a b"),
        (parse_model_name, "a\r\nx: y"),
        (parse_model_name, "m" * 257),
        (parse_model_name, "modèle"),
        (parse_provider_key, ""),
        (parse_provider_key, "a\nb"),
        (parse_provider_key, "a\n"),
        (parse_provider_key, "clé"),
        (parse_network, "10.0.0.0/33"),
        (parse_network, "example.com"),
        (parse_plan_name, "a b"),
        (parse_plan_name, "p" * 65),
        (parse_feature_name, ""),
        (parse_feature_name, "a\nb"),
        (parse_feature_name, "f" * 129),
        *((parse_time_zone, text) for text in ("", "Mars/Base", "europe/berlin", "America", "../../etc/passwd")),
        *(
            (parse_time_zone, text)
            for text in ("localtime", "tzdata.zi", "/etc/localtime", "Europe/Berlin\n", "+01:00")
        ),
        *((parse_sink, text) for text in ("", "folder:", "folder:a\0b", "folder://x", "ledger/", "s3:bucket", "s3://")),
        *((parse_sink, text) for text in ("s3://UPPER/x", "s3://a/b c", "s3://a", "gs://bucket/x", "None")),
        *((parse_webhook_url, text) for text in ("", "http://x.example/", "ftp://x", "https://u:p@x/", "https://x/#f")),
        *((parse_webhook_url, text) for text in ("https://", "https://x y/", "http://127.0.0.1.nip.io/")),
    ],
)
def test_no_such_name(parse, text):
    with pytest.raises(Mismatch):
        parse(text)


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_tenant_id, "a" * 64),
        (parse_tenant_id, "Acme_2-eu"),
        (parse_provider_name, "azure-eu.v1_2"),
        (parse_model_name, "meta-llama/Llama-4:free@2026"),
        (parse_plan_name, "pro.v2_eu-1"),
        (parse_feature_name, "SQL-Erklärung 日本"),
        *((parse_time_zone, text) for text in ("UTC", "Europe/Berlin", "Etc/GMT+5", "America/Port-au-Prince")),
        (parse_time_zone, "America/Argentina/Buenos_Aires"),
        *(
            (parse_sink, text)
            for text in ("none", "folder:ledger/", "folder:/var/lib/x", "s3://bucket", "s3://b.c-1/a/b=c")
        ),
    ],
)
def test_such_a_name(parse, text):
    assert parse(text) == text


@pytest.mark.parametrize(
    "url", ["https://hooks.example/T0/B1?x=1", "http://127.0.0.1:9/x", "http://localhost/", "https://x"]
)
def test_a_webhook_is_a_secret(url):
    assert parse_webhook_url(url).reveal() == url


def test_a_time_zone_in_the_wrong_case_is_offered_in_the_right_one():
    with pytest.raises(Mismatch) as caught:
        parse_time_zone("america/new_york")
    assert caught.value.suggestion == 'Did you mean "America/New_York"?'


def test_one_slip_beside_many_tenants_is_looked_up_once(monkeypatch):
    looks: list[str] = []

    def available_timezones() -> set[str]:
        looks.append("look")
        return {"Europe/Vaduz"}

    monkeypatch.setattr(values, "available_timezones", available_timezones)
    for _ in range(1_000):
        with pytest.raises(Mismatch) as caught:
            parse_time_zone("Europe/Vadutz")
        assert caught.value.suggestion == 'Did you mean "Europe/Vaduz"?'
    assert looks == ["look"]
