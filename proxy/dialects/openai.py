"""What an OpenAI-compatible API looks like from outside: its paths, its headers, its refusals.

Pure. Sources: the published OpenAPI description (github.com/openai/openai-openapi) and the
vendors' API references; Anthropic's Messages paths stand here too, because both share `/v1`.
"""

import re
import unicodedata
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final
from urllib.parse import unquote_to_bytes

from proxy.core.errors import InvalidPath


class BodyKind(Enum):
    """What is done with a request's body."""

    JSON = "json"  # read whole and parsed, whatever its content-type says
    NONE = "none"  # there is none
    FORM = "form"  # JSON where `is_json` says so, else a form whose fields decide
    OTHER = "other"  # likewise, and what is neither is streamed as it arrives


class StreamEnd(Enum):
    """How a server-sent stream says that it is whole."""

    DONE = "done"  # `data: [DONE]`
    RESPONSE = "response"  # `response.completed`, `.incomplete` or `.failed`, or an `error` event
    MESSAGE_STOP = "message_stop"  # `message_stop`, or an `error` event


class Shape(Enum):
    """Whose conventions a path belongs to: its error envelope, and how it counts tokens."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


@dataclass(frozen=True, slots=True)
class Operation:
    """What is known of a method and path."""

    name: str  # one of OPERATION_NAMES: a label of metrics and rows
    body: BodyKind = BodyKind.OTHER
    model_required: bool = False
    stream_end: StreamEnd | None = None  # None: not known
    admin: bool = False  # administers the provider's account
    base_shape: Shape = Shape.OPENAI
    gateway_served: bool = False  # answered here, from the routes
    model_in_path: bool = False  # the path may name a model, whatever the body says


# A caller's own credentials: they end here unless the caller's own key pays.
CREDENTIAL_HEADERS: Final = frozenset(
    {b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"ocp-apim-subscription-key", b"cookie"}
)
# Whose account a request is for: with another account's key, a 401.
ACCOUNT_HEADERS: Final = frozenset({b"openai-organization", b"openai-project", b"x-goog-user-project"})
# What an answer tells of the account that paid.
ACCOUNT_RESPONSE_HEADERS: Final = ACCOUNT_HEADERS | {b"set-cookie", b"anthropic-organization-id"}

# The first segment of paths whose objects the provider keeps; each is its own label.
OBJECT_FAMILIES: Final = frozenset(
    {
        "agents",
        "assistants",
        "batches",
        "containers",
        "conversations",
        "evals",
        "files",
        "fine_tuning",
        "live",
        "realtime",
        "skills",
        "threads",
        "uploads",
        "vaults",
        "vector_stores",
        "videos",
    }
)
_ADMIN_FAMILIES: Final = frozenset({"organization", "organizations", "projects"})
# Before a model's name in paths: OpenAI's first API, Azure's, Gemini's, Vertex's, Bedrock's.
_BEFORE_MODELS: Final = frozenset({"deployments", "engines", "model", "models", "publishers", "tunedmodels"})

_OTHER: Final = Operation("other")
_ADMIN: Final = Operation("admin", admin=True)
_OTHER_WITH_MODEL: Final = Operation("other", model_in_path=True)
_MODEL: Final = Operation("model", BodyKind.NONE, gateway_served=True)
_MODELS: Final = Operation("models", BodyKind.NONE, gateway_served=True)
_RESPONSE: Final = Operation("response", stream_end=StreamEnd.RESPONSE)
_STORED_CHAT: Final = Operation("stored_chat_completions")
_MESSAGE_BATCHES: Final = Operation("message_batches", base_shape=Shape.ANTHROPIC)
_FAMILIES: Final = {name: Operation(name) for name in OBJECT_FAMILIES}

_POSTED: Final = {
    ("chat", "completions"): Operation("chat_completions", BodyKind.JSON, True, StreamEnd.DONE),
    ("responses",): Operation("responses", BodyKind.JSON, False, StreamEnd.RESPONSE),  # a prompt id may name the model
    ("responses", "input_tokens"): Operation("responses_input_tokens", BodyKind.JSON),
    ("responses", "compact"): Operation("responses_compact", BodyKind.JSON),
    ("embeddings",): Operation("embeddings", BodyKind.JSON, True),
    ("completions",): Operation("completions", BodyKind.JSON, True, StreamEnd.DONE),
    ("moderations",): Operation("moderations", BodyKind.JSON),
    ("images", "generations"): Operation("images", BodyKind.JSON),
    ("images", "edits"): Operation("images", BodyKind.FORM),
    ("images", "variations"): Operation("images", BodyKind.FORM),
    ("audio", "speech"): Operation("audio_speech", BodyKind.JSON, True),
    ("audio", "transcriptions"): Operation("audio_transcriptions", BodyKind.FORM),
    ("audio", "translations"): Operation("audio_translations", BodyKind.FORM),
    ("messages",): Operation("messages", BodyKind.JSON, True, StreamEnd.MESSAGE_STOP, base_shape=Shape.ANTHROPIC),
    ("messages", "count_tokens"): Operation("messages_count_tokens", BodyKind.JSON, True, base_shape=Shape.ANTHROPIC),
}
_TABLE: Final = {
    ("GET", ("models",)): _MODELS,
    ("HEAD", ("models",)): _MODELS,
    **{("POST", path): operation for path, operation in _POSTED.items()},
}

# The paths at which a POST asks for a new answer, in lower case.
ASKING_PATHS: Final = frozenset(_POSTED)
OPERATION_NAMES: Final = frozenset(
    operation.name
    for operation in (
        *_TABLE.values(),
        *_FAMILIES.values(),
        _OTHER,
        _ADMIN,
        _MODEL,
        _RESPONSE,
        _STORED_CHAT,
        _MESSAGE_BATCHES,
    )
)


def classify(method: str, segments: tuple[str, ...]) -> Operation:
    """What is known of a method and the decoded segments after `/v1/`.

    Another `v1` before them, a slash after them and upper case change nothing: what another
    reader might take for a known path is treated as one. GET `models` is "models", and GET
    `models/{id}` is "model", likewise HEAD: these two the gateway answers from its own routes.
    """
    operation = _TABLE.get((method, segments))
    if operation is not None:
        return operation
    parts = path_parts(segments)
    operation = _TABLE.get((method, parts)) or _by_family(method, parts)
    if operation.body is BodyKind.OTHER and method in ("GET", "HEAD", "DELETE", "OPTIONS"):
        return replace(operation, body=BodyKind.NONE)
    return operation


def path_parts(segments: tuple[str, ...]) -> tuple[str, ...]:
    """The segments as the most lenient reader compares them: in lower case, without parameters
    (`files;x=1`), without spaces around them or dots behind them, without empty ones, or `v1`
    before them (a base URL that lacks its `/v1` would make `/v1/v1/files` reach the provider's
    files). Letters that only look different (`ｆiles`, `fileſ`) are those that they stand for."""
    parts = [part for segment in segments if (part := _plain(segment))]
    first = 0
    while first < len(parts) and parts[first] == "v1":
        first += 1
    return tuple(parts[first:])


def _plain(segment: str) -> str:
    if not segment.isascii():
        segment = unicodedata.normalize("NFKC", segment).casefold()
    return segment.partition(";")[0].strip().rstrip(". ").lower()


def _by_family(method: str, parts: tuple[str, ...]) -> Operation:
    family = parts[0] if parts else ""
    if family.partition(".")[0].partition(":")[0] in _ADMIN_FAMILIES:
        return _ADMIN
    if family == "models" and method in ("GET", "HEAD") and len(parts) > 1:
        return _MODEL  # an id may hold slashes, encoded or not: all that follows is the id
    if family == "responses":
        return _RESPONSE
    if parts[:2] == ("chat", "completions"):
        return _STORED_CHAT
    if parts[:2] == ("messages", "batches"):
        return _MESSAGE_BATCHES
    unknown = _OTHER if _BEFORE_MODELS.isdisjoint(parts) else _OTHER_WITH_MODEL
    return _FAMILIES.get(family, unknown)


def is_json(content_type: bytes | None) -> bool:
    """True for `application/json` and every `+json` media type (RFC 6839, section 3.1)."""
    if content_type is None:
        return False
    media_type = content_type.partition(b";")[0].strip().lower()
    return media_type == b"application/json" or media_type.endswith(b"+json")


_CHARSET: Final = re.compile(rb"charset[*0-9]*\s*=")
_READ_ALIKE: Final = re.compile(rb"charset\s*=\s*\"?(?:utf-?8|us-ascii|iso-8859-1)\"?\s*(?:;|$)")


def is_charset_read_alike(content_type: bytes) -> bool:
    """True where JSON under this content type has one meaning: no charset, or one in which each
    of JSON's own characters is the byte that it is in UTF-8.

    JSON is UTF-8 (RFC 8259, section 8.1), but some readers obey a charset. In UTF-7 `+ACI-` is
    a quote, in Shift-JIS a backslash may be the half of a letter: such a reader finds other
    members in the same bytes.
    """
    lowered = content_type.lower()
    if b"charset" not in lowered:
        return True
    return len(_CHARSET.findall(lowered)) == len(_READ_ALIKE.findall(lowered))


# ── targets ──────────────────────────────────────────────────────────────────────────────

_PLAIN_PATH: Final = re.compile(r"(?:/[A-Za-z0-9_:~@,-][A-Za-z0-9_:~@,.-]*)+/?", re.ASCII)
_RAW_FORBIDDEN: Final = re.compile(r"[^\x21-\x7e]|[\\#?]|%(?![0-9A-Fa-f]{2})")
_DECODED_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\\]|%[0-9A-Fa-f]{2}")


def parse_target(path: str) -> tuple[str, ...]:
    """The segments of a target's path, as sent, each percent-decoded once.

    A trailing slash gives a last, empty segment. An encoded slash stays within its segment,
    and is legal in model ids alone.

    Raises:
        InvalidPath: two readers could understand the path differently: dot segments (encoded
            ones too), empty inner segments, backslashes, control characters, an escape that is
            broken, or encoded twice, or not UTF-8 (RFC 3986, sections 2.1, 3.3 and 6.2.2).
    """
    if _PLAIN_PATH.fullmatch(path):
        return tuple(path[1:].split("/"))
    if not path.startswith("/") or _RAW_FORBIDDEN.search(path):
        raise InvalidPath("The path must begin with a slash, hold visible ASCII alone, and escape all else as %XX.")
    segments = tuple(_decoded(segment) for segment in path[1:].split("/"))
    if "" in segments[:-1]:
        raise InvalidPath("The path has an empty segment (`//`). Send one slash.")
    for index, segment in enumerate(segments):
        pieces = segment.split("/")
        if len(pieces) > 1 and ("" in pieces or not _is_model_id(segments, index)):
            raise InvalidPath("The path has an encoded slash, which only the id of a model may hold.")
        # Some servers cut a parameter off before they look for dots: `..;x` is `..` to them.
        if any(piece.partition(";")[0] in (".", "..") for piece in pieces):
            raise InvalidPath("The path has a dot segment. Send the path that it leads to.")
    return segments


def _decoded(segment: str) -> str:
    if "%" not in segment:
        return segment
    try:
        text = unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        raise InvalidPath("The path's escapes are not UTF-8.") from None
    if _DECODED_FORBIDDEN.search(text):
        raise InvalidPath("The path escapes a backslash or a control character, or is escaped twice.")
    return text


def model_in_path(segments: tuple[str, ...]) -> str:
    """The id in `/models/{id}`, in its own case; it may itself hold slashes, encoded or not.
    What a lenient server would cut off behind it (`;x`, a slash) is no part of it."""
    parts = [segment.partition(";")[0].strip() for segment in segments]
    while parts and not parts[-1]:
        parts.pop()
    first = 0
    while first < len(parts) and parts[first].lower() in ("v1", ""):
        first += 1
    return "/".join(parts[first + 1 :])


def _is_model_id(segments: tuple[str, ...], index: int) -> bool:
    family_index = 1 if segments[0] == "v1" else 0
    return index > family_index and segments[family_index] == "models"


# ── refusals about credentials ───────────────────────────────────────────────────────────

_EVIDENCE_BYTES_MAX: Final = 65_536
# Words of a 403 about the credential, or about what the account behind it may do: such texts
# name the key, the project or the organisation.
_ABOUT_CREDENTIALS: Final = re.compile(
    rb"api[ _-]?key|authenticat|authoriz|credential|permission|organi[sz]ation|project|account|token|\bsk-|secret",
    re.IGNORECASE,
)
# A 403 that clearly is about the content or about where the caller is.
_ABOUT_SOMETHING_ELSE: Final = re.compile(
    rb"unsupported_country|country, region,|region.{0,40}not supported|location is not supported"
    rb"|content[ _-]?(?:policy|filter|violat)|moderation|flagged|safety|usage guidelines|usage polic",
    re.IGNORECASE,
)


def is_credential_error(status: int, body: bytes) -> bool:
    """True where an answer speaks of the key that paid, so that it may show a piece of it.

    A 401 always does. A 403 does unless its text clearly is about the content or the region
    and says no word of keys, permissions or accounts: to hide an innocent text costs the
    caller an explanation, to show a guilty one costs the operator a secret. The body may be
    cut off, and need not be JSON.
    """
    if status != 403:
        return status == 401
    evidence = body[:_EVIDENCE_BYTES_MAX]
    return _ABOUT_CREDENTIALS.search(evidence) is not None or _ABOUT_SOMETHING_ELSE.search(evidence) is None
