"""Which API's calls can be said in which other API, and by whom.

Pure. Two APIs share the paths below `/v1`; what a provider of one of them is asked is either its own, or stands
here, or is not to be had from it.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from proxy.dialects.chat_to_messages import translate as chat_to_messages
from proxy.dialects.messages_to_chat import translate as messages_to_chat
from proxy.dialects.openai import Operation, Shape, classify
from proxy.dialects.translation import Translator


class Way(NamedTuple):
    """From one API to the other."""

    name: str  # `FROM>TO`, by the operations' names
    operation: Operation  # what the provider is asked
    path: str  # where, behind `/v1`
    translate: Translator


_CHAT: Final = classify("POST", ("chat", "completions"))
_MESSAGES: Final = classify("POST", ("messages",))
_WAYS: Final[Mapping[tuple[str, Shape], Way]] = {
    ("chat_completions", Shape.ANTHROPIC): Way(
        "chat_completions>messages", _MESSAGES, "/messages", chat_to_messages.translate
    ),
    ("messages", Shape.OPENAI): Way(
        "messages>chat_completions", _CHAT, "/chat/completions", messages_to_chat.translate
    ),
}
# What OpenAI's API has and Anthropic's has not. Paths of objects that a provider keeps are nobody's alone.
_OPENAI_ALONE: Final = frozenset(
    {
        "audio_speech",
        "audio_transcriptions",
        "audio_translations",
        "completions",
        "embeddings",
        "images",
        "moderations",
        "responses",
        "responses_compact",
        "responses_input_tokens",
    }
)


def way_to(shape: Shape, operation: Operation) -> Way | None:
    """How a provider of this shape is asked for this operation; None: as it is."""
    return _WAYS.get((operation.name, shape))


def is_served(shape: Shape, operation: Operation) -> bool:
    """True where a provider of this shape has this operation, or one that it can be said in."""
    if (operation.name, shape) in _WAYS:
        return True
    if shape is Shape.ANTHROPIC:
        return operation.name not in _OPENAI_ALONE
    return operation.base_shape is not Shape.ANTHROPIC
