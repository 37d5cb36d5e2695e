"""The door to AWS KMS: five calls, each bounded in time, errors mapped once.

boto3 brings its own ways to find credentials (environment, files, the machine's role); the region is the key's own,
from its ARN. It blocks, so calls run in a few threads of their own. Whoever waits may give up earlier: a call goes
on, and its answer is there for the next who asks.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, cast

CONNECT_TIMEOUT_S: Final = 0.2
READ_TIMEOUT_S: Final = 1.0
ATTEMPTS_MAX: Final = 2
THREADS_MAX: Final = 8
CALLS_MAX: Final = 256  # under way or waiting for a thread

Context: TypeAlias = Mapping[str, str]
OnCalled: TypeAlias = Callable[[str, float], object]
"""Hears of a call's name, and how many seconds it took, its place in the queue included."""


class Refusal(Enum):
    """Why KMS says no, where asking again would not help."""

    CIPHERTEXT = "ciphertext"  # changed, or of another key, or under another context
    MISSING = "missing"
    DISABLED = "disabled"
    PENDING_DELETION = "pending_deletion"
    DENIED = "denied"
    OTHER = "other"


class KmsRefused(Exception):
    """KMS answered, and said no. The message is KMS's own, for the log."""

    def __init__(self, refusal: Refusal, message: str) -> None:
        super().__init__(message)
        self.refusal = refusal


class KmsAway(Exception):
    """KMS did not answer in time, or cannot serve now, or cannot be asked at all. The message is for the log."""


class GeneratedDek(NamedTuple):
    """A new data key. `plaintext` never reaches a log: nothing here has a repr of it."""

    plaintext: bytes
    ciphertext: bytes

    def __repr__(self) -> str:
        return "GeneratedDek(…)"


class _Client(Protocol):
    """The little of boto3's client that is used here, typed."""

    def generate_data_key(self, **parameters: object) -> Mapping[str, Any]: ...
    def generate_data_key_without_plaintext(self, **parameters: object) -> Mapping[str, Any]: ...
    def encrypt(self, **parameters: object) -> Mapping[str, Any]: ...
    def decrypt(self, **parameters: object) -> Mapping[str, Any]: ...
    def re_encrypt(self, **parameters: object) -> Mapping[str, Any]: ...


_REFUSALS: Final = {
    "InvalidCiphertextException": Refusal.CIPHERTEXT,
    "IncorrectKeyException": Refusal.CIPHERTEXT,
    "NotFoundException": Refusal.MISSING,
    "DisabledException": Refusal.DISABLED,
    "AccessDeniedException": Refusal.DENIED,
    "AccessDenied": Refusal.DENIED,
    "UnrecognizedClientException": Refusal.DENIED,
    "InvalidSignatureException": Refusal.DENIED,
    "ExpiredTokenException": Refusal.DENIED,
}
# It holds for a while: throttled, or broken on their side.
_AWAY: Final = frozenset(
    {
        "DependencyTimeoutException",
        "KeyUnavailableException",
        "KMSInternalException",
        "LimitExceededException",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "InternalFailure",
        "ThrottlingException",
        "Throttling",
    }
)


def region_of(arn: str) -> str:
    """The region that a key's ARN names."""
    return arn.split(":")[3]


class KmsDoor:
    """One key in AWS KMS. Every call raises KmsRefused or KmsAway."""

    __slots__ = ("_arn", "_calls", "_client", "_endpoint_url", "_errors", "_lock", "_on_called", "_threads")

    def __init__(self, arn: str, endpoint_url: str | None, on_called: OnCalled) -> None:
        """Connects to nothing yet.

        Args:
            arn: the key's, not an alias's: `arn:aws:kms:REGION:ACCOUNT:key/ID`.
            endpoint_url: another place than the region's own, such as a VPC endpoint.
            on_called: hears of every call.
        """
        self._arn = arn
        self._endpoint_url = endpoint_url
        self._on_called = on_called
        self._client: _Client | None = None
        self._errors: tuple[type[Exception], ...] = ()
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(max_workers=THREADS_MAX, thread_name_prefix="tollway-kms")
        self._calls = 0

    async def connect(self) -> None:
        """Load boto3 and make its client, which takes longer than any call. Raises KmsAway where that fails."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, self._connected)
        except RuntimeError:
            raise KmsAway("the door to KMS is closed") from None

    async def generate(self, context: Context) -> GeneratedDek:
        """A new data key of 32 bytes, in the clear and wrapped."""
        answer = await self._call(
            "GenerateDataKey",
            lambda kms: kms.generate_data_key(KeyId=self._arn, KeySpec="AES_256", EncryptionContext=dict(context)),
        )
        return GeneratedDek(answer["Plaintext"], answer["CiphertextBlob"])

    async def generate_wrapped(self, context: Context) -> bytes:
        """A new data key of 32 bytes, wrapped."""
        answer = await self._call(
            "GenerateDataKeyWithoutPlaintext",
            lambda kms: kms.generate_data_key_without_plaintext(
                KeyId=self._arn, KeySpec="AES_256", EncryptionContext=dict(context)
            ),
        )
        return cast(bytes, answer["CiphertextBlob"])

    async def encrypt(self, plaintext: bytes, context: Context) -> bytes:
        """Wrap a data key."""
        answer = await self._call(
            "Encrypt",
            lambda kms: kms.encrypt(KeyId=self._arn, Plaintext=plaintext, EncryptionContext=dict(context)),
        )
        return cast(bytes, answer["CiphertextBlob"])

    async def decrypt(self, ciphertext: bytes, context: Context) -> bytes:
        """Unwrap a data key that this key, and no other, wrapped under this context."""
        answer = await self._call(
            "Decrypt",
            lambda kms: kms.decrypt(KeyId=self._arn, CiphertextBlob=ciphertext, EncryptionContext=dict(context)),
        )
        return cast(bytes, answer["Plaintext"])

    async def re_encrypt(self, ciphertext: bytes, source_arn: str, context: Context) -> bytes:
        """Wrap by this key what another one of the region wrapped, inside KMS."""
        answer = await self._call(
            "ReEncrypt",
            lambda kms: kms.re_encrypt(
                CiphertextBlob=ciphertext,
                SourceKeyId=source_arn,
                SourceEncryptionContext=dict(context),
                DestinationKeyId=self._arn,
                DestinationEncryptionContext=dict(context),
            ),
        )
        return cast(bytes, answer["CiphertextBlob"])

    def close(self) -> None:
        """Let go of the threads. Calls under way end by their own time-outs."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _call(self, name: str, ask: Callable[[_Client], Mapping[str, Any]]) -> Mapping[str, Any]:
        if self._calls >= CALLS_MAX:
            raise KmsAway(f"{CALLS_MAX} calls to KMS are under way")
        try:
            calling = asyncio.get_running_loop().run_in_executor(self._threads, self._ask, ask)
        except RuntimeError:
            raise KmsAway("the door to KMS is closed") from None
        self._calls += 1
        began_s = time.monotonic()
        calling.add_done_callback(lambda done: self._end(done, name, began_s))
        answer = await calling
        if answer.get("KeyId") != self._arn:
            raise KmsRefused(Refusal.OTHER, f"{name} was answered for another key than {self._arn}")
        return answer

    def _end(self, calling: "asyncio.Future[Mapping[str, Any]]", name: str, began_s: float) -> None:
        self._calls -= 1
        self._on_called(name, time.monotonic() - began_s)
        if not calling.cancelled():
            calling.exception()  # seen, also where nobody waits for it any more

    # ── in a thread ──────────────────────────────────────────────────────────────────────

    def _ask(self, ask: Callable[[_Client], Mapping[str, Any]]) -> Mapping[str, Any]:
        try:
            return ask(self._connected())
        except self._errors as error:
            raise _mapped(error, self._arn) from None

    def _connected(self) -> _Client:
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> _Client:
        try:
            import boto3  # imported only where KMS is configured: it takes longer than the gateway's start
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError:
            raise KmsAway("AWS KMS needs boto3: pip install 'tollway[kms]', or -e '.[kms]' in a checkout") from None
        self._errors = (BotoCoreError, ClientError, OSError)
        config = Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS_MAX},
            max_pool_connections=THREADS_MAX,
            tcp_keepalive=True,
        )
        try:
            # A session of its own: the default one is not made for several threads.
            session = boto3.session.Session(region_name=region_of(self._arn))
            return cast(_Client, session.client("kms", config=config, endpoint_url=self._endpoint_url))
        except (BotoCoreError, ValueError) as error:
            raise KmsAway(str(error)) from None


def _mapped(error: Exception, arn: str) -> KmsRefused | KmsAway:
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return KmsAway(f"{arn}: {error}")
    code = str(response.get("Error", {}).get("Code", ""))
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == "KMSInvalidStateException":  # whose message alone tells the states apart
        refusal = Refusal.PENDING_DELETION if "pending deletion" in str(error).lower() else Refusal.DISABLED
        return KmsRefused(refusal, f"{arn}: {error}")
    if code in _REFUSALS:
        return KmsRefused(_REFUSALS[code], f"{arn}: {error}")
    if code in _AWAY or (isinstance(status, int) and status >= 500):
        return KmsAway(f"{arn}: {error}")
    return KmsRefused(Refusal.OTHER, f"{arn}: {error}")
