"""Which sink a URL names."""

from pathlib import Path

from proxy.adapters.s3 import S3Door
from proxy.ledger.sink import LedgerSink
from proxy.ledger.sink_file import FileSink
from proxy.ledger.sink_s3 import S3Sink


def connect_sink(url: str, folder: Path) -> LedgerSink | None:
    """The sink that is `folder:PATH` (a relative one is taken from the state folder) or `s3://BUCKET/PREFIX`;
    None for `none`: rows then stay in the store. Nothing is opened until the first call.

    Raises:
        ValueError: another URL.
    """
    kind, _, rest = url.partition(":")
    if kind == "folder" and rest:
        return FileSink(folder / rest)
    bucket, _, prefix = rest.removeprefix("//").partition("/")
    if kind == "s3" and rest.startswith("//") and bucket:
        return S3Sink(S3Door(bucket), prefix)
    if url == "none":
        return None
    raise ValueError("The ledger's sink is folder:PATH, s3://BUCKET/PREFIX or none.")
