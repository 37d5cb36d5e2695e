"""The door to S3, or to what speaks like it: whole objects, each written once.

boto3 brings its own ways to find credentials, region and endpoint (environment, files, the
machine's role; `AWS_ENDPOINT_URL_S3` for another store than Amazon's): none of them is set here.
It blocks, so call it in a thread. Its clients may be used by several.
"""

import threading
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, cast

CONNECT_TIMEOUT_S = 3
READ_TIMEOUT_S = 10
ATTEMPTS_MAX = 2
LIST_CALLS_MAX = 100_000  # of 1,000 names each: a listing that does not end is a fault

_ABSENT = frozenset({"NoSuchKey", "404"})
_THERE_ALREADY = frozenset({"PreconditionFailed", "412"})
_NO_CONDITIONS = frozenset({"NotImplemented", "501"})


class _Client(Protocol):
    """The little of boto3's client that is used here, typed."""

    def put_object(self, **parameters: object) -> Mapping[str, Any]: ...
    def get_object(self, **parameters: object) -> Mapping[str, Any]: ...
    def head_object(self, **parameters: object) -> Mapping[str, Any]: ...
    def list_objects_v2(self, **parameters: object) -> Mapping[str, Any]: ...


class S3Door:
    """One bucket. Every method raises OSError where it does not answer, or refuses."""

    __slots__ = ("_bucket", "_client", "_lock")

    def __init__(self, bucket: str) -> None:
        """Connects to nothing yet."""
        self._bucket = bucket
        self._client: _Client | None = None
        self._lock = threading.Lock()

    def put_new(self, name: str, data: bytes) -> bool:
        """Write an object. False where there is one of this name already: it stays."""
        client, error_class = self._connected()
        parameters = {"Bucket": self._bucket, "Key": name, "Body": data, "ContentType": "application/x-ndjson"}
        try:
            client.put_object(**parameters, IfNoneMatch="*")
        except error_class as error:
            if _code(error) in _THERE_ALREADY:
                return False
            if _code(error) not in _NO_CONDITIONS:
                raise self._failure(error) from error
        else:
            return True
        # A store that knows no conditions: the caller's claim alone keeps others away meanwhile.
        try:
            if self._exists(client, name):
                return False
            client.put_object(**parameters)
        except error_class as error:
            raise self._failure(error) from error
        return True

    def get(self, name: str) -> bytes | None:
        """An object's content; None where there is none."""
        client, error_class = self._connected()
        try:
            body = client.get_object(Bucket=self._bucket, Key=name)["Body"]
            return cast(bytes, body.read())
        except error_class as error:
            if _code(error) in _ABSENT:
                return None
            raise self._failure(error) from error

    def names(self, prefix: str) -> Iterator[str]:
        """The names that begin so and have no `/` beyond, without what they begin with."""
        for page in self._listing(prefix):
            for entry in page.get("Contents", ()):
                yield str(entry["Key"]).removeprefix(prefix)

    def folders(self, prefix: str) -> Iterator[str]:
        """What stands between the prefix and the next `/`."""
        for page in self._listing(prefix):
            for entry in page.get("CommonPrefixes", ()):
                yield str(entry["Prefix"]).removeprefix(prefix).removesuffix("/")

    def probe(self, prefix: str) -> None:
        """Ask for the beginning of a listing."""
        next(self._listing(prefix))

    def _listing(self, prefix: str) -> Iterator[Mapping[str, Any]]:
        client, error_class = self._connected()
        parameters: dict[str, object] = {"Bucket": self._bucket, "Prefix": prefix, "Delimiter": "/"}
        for _ in range(LIST_CALLS_MAX):
            try:
                page = client.list_objects_v2(**parameters)
            except error_class as error:
                raise self._failure(error) from error
            yield page
            if not page.get("IsTruncated"):
                return
            parameters["ContinuationToken"] = page["NextContinuationToken"]
        raise AssertionError(f"the listing of {prefix} does not end")

    def _exists(self, client: _Client, name: str) -> bool:
        try:
            client.head_object(Bucket=self._bucket, Key=name)
        except self._connected()[1] as error:
            if _code(error) in _ABSENT:
                return False
            raise
        return True

    def _connected(self) -> tuple[_Client, tuple[type[Exception], ...]]:
        """The client, and what it raises."""
        try:
            import boto3  # imported only where S3 is configured: it takes longer than the gateway's start
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError:
            raise OSError("S3 needs boto3: pip install 'tollway[s3]', or -e '.[s3]' in a checkout") from None
        with self._lock:
            if self._client is None:
                config = Config(
                    connect_timeout=CONNECT_TIMEOUT_S,
                    read_timeout=READ_TIMEOUT_S,
                    retries={"mode": "standard", "total_max_attempts": ATTEMPTS_MAX},
                    # Its newer checksums are unknown to many stores that speak like S3.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                )
                try:
                    self._client = cast(_Client, boto3.client("s3", config=config))
                except (BotoCoreError, ValueError) as error:  # no region, or an endpoint that is no URL
                    raise self._failure(error) from error
            return self._client, (BotoCoreError, ClientError, OSError)

    def _failure(self, error: Exception) -> OSError:
        return OSError(f"S3 bucket {self._bucket}: {error}")


def _code(error: Exception) -> str:
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""
