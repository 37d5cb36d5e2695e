"""What a translator between two APIs takes, and what it gives back.

Pure. A translator is a function from a call of one API to a call of the other; with it comes what turns the
answer back. There are two: `chat_to_messages.translate` and `messages_to_chat.translate`.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from proxy.core.errors import InvalidJson
from proxy.dialects.dialect import Dialect

Document: TypeAlias = Mapping[str, Any]
"""A JSON object, parsed."""


NOT_AS_DOCUMENTED: Final = (InvalidJson, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What reading an answer as it is documented raises where it is otherwise: answers are read without asking at each
step, because they are right but for a fault, and a fault of any kind is `UpstreamMalformed`."""


class TargetModel(NamedTuple):
    """The model that will answer, as far as a translator has to know it."""

    name: str  # as the provider calls it
    dialect: Dialect  # of the provider
    max_output_tokens: int | None = None  # None: not known
    capabilities: frozenset[str] | None = None  # names of `core.capabilities`; None: not known


class StreamTranslator(Protocol):
    """Turns one stream of events into the other API's. Bytes go in as they arrive; what they complete comes out."""

    def feed(self, chunk: bytes) -> bytes:
        """What this chunk says, in the caller's API; empty where it completes nothing.

        Raises:
            UpstreamMalformed: these are not the events of the provider's API.
        """
        ...

    def close(self) -> bytes:
        """What is still to be said once the provider's stream has come to its end."""
        ...


class AnswerTranslator(Protocol):
    """Says a provider's answer in the caller's API. It is of one call, because that tells what the caller wants."""

    def whole(self, body: bytes) -> bytes:
        """A plain answer of status 200.

        Raises:
            UpstreamMalformed: it is not an answer of the provider's API.
        """
        ...

    def error(self, status: int, body: bytes) -> tuple[int, bytes]:
        """An answer of another status: the caller's API's own status for it, and the body. Raises nothing."""
        ...

    def stream(self) -> StreamTranslator:
        """For an answer of status 200 that is a stream of events."""
        ...


class Translated(NamedTuple):
    """A call in the provider's API."""

    document: dict[str, Any]  # the body that is sent
    dropped: tuple[str, ...]  # what of the caller's call is lost: paths such as `seed`, `messages.2.name`; in order
    answers: AnswerTranslator


class Translator(Protocol):
    """Turns a call of one API into one of another."""

    def __call__(self, document: Document, target: TargetModel, created_s: int) -> Translated:
        """Translate one call.

        Args:
            document: the caller's body, parsed, as it came.
            target: the model that it goes to.
            created_s: the Unix time that an answer is said to be of.

        Raises:
            InvalidParameter: the call is not one of the caller's API: an unknown role, a result of a tool that nobody
                called, base64 that is none. `param` names the place.
            UnsupportedParameter: it says what the other API has no way to say, and which cannot be left out (a
                sound in the input).
        """
        ...
