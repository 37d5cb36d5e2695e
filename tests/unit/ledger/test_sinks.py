from pathlib import Path

import pytest

from proxy.ledger.sink_file import FileSink
from proxy.ledger.sink_s3 import S3Sink
from proxy.ledger.sinks import connect_sink


@pytest.mark.parametrize(
    ("url", "kind", "place"),
    [
        ("folder:ledger/", FileSink, Path("/state/ledger")),
        ("folder:/srv/ledger", FileSink, Path("/srv/ledger")),
        ("s3://bucket", S3Sink, "acme/00000001.jsonl"),
        ("s3://bucket/", S3Sink, "acme/00000001.jsonl"),
        ("s3://bucket/a/b", S3Sink, "a/b/acme/00000001.jsonl"),
    ],
)
def test_a_url_names_a_sink(url, kind, place):
    sink = connect_sink(url, Path("/state"))
    assert isinstance(sink, kind)
    assert place == (sink._folder if isinstance(sink, FileSink) else sink._name("acme", 1))


def test_none_is_no_sink():
    assert connect_sink("none", Path("/state")) is None


@pytest.mark.parametrize(
    "url", ["", "folder:", "file:ledger/", "s3:", "s3://", "s3:///prefix", "s3:bucket", "ftp://x", "ledger/"]
)
def test_another_url_is_refused(url):
    with pytest.raises(ValueError, match="BUCKET"):
        connect_sink(url, Path("/state"))
