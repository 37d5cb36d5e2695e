import pytest

from proxy.core.origin import origin_of


@pytest.mark.parametrize(
    ("base_url", "origin"),
    [
        ("https://API.openai.com:443/v1", "https://api.openai.com"),
        ("https://api.openai.com", "https://api.openai.com"),
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000"),
        ("http://localhost:80", "http://localhost"),
        ("https://localhost:80", "https://localhost:80"),
        ("http://[::1]:8000/v1", "http://[::1]:8000"),
        ("https://user@api.openai.com/v1", "https://api.openai.com"),
    ],
)
def test_an_origin_is_scheme_host_and_port(base_url, origin):
    assert origin_of(base_url) == origin
    assert origin_of(origin) == origin


@pytest.mark.parametrize("text", ["", "api.openai.com", "ftp://a.example", "https://", "https:///v1", "https://a:b"])
def test_what_has_no_origin_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011  urllib's own, for a port that is none
        origin_of(text)
