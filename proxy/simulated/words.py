"""What the simulated provider says, and how many tokens that is.

Pure and deterministic: the same prompt gets the same words.
"""

import itertools
import re
from typing import Final

from proxy.simulated.refusals import wrong_type, wrong_value
from proxy.simulated.steps import Document

BYTES_PER_TOKEN: Final = 4
"""About what English has (https://platform.openai.com/docs/concepts/tokens)."""

_EXCERPT_CHARS_MAX: Final = 80
_ANSWER: Final = "This is the simulated provider: no model was asked and nothing was billed."
_PIECE = re.compile(r"\S+\s*|\s+")


def count_tokens(text: str) -> int:
    """Tokens of a text, never more than it has bytes."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def pieces(text: str) -> list[str]:
    """The text cut into words, each with the spaces after it: what a stream's deltas are."""
    return _PIECE.findall(text)


def say(prompt: str, chunks: int | None) -> str:
    """The answer to a prompt, of exactly so many pieces where a number is given."""
    excerpt = " ".join(prompt.split())[:_EXCERPT_CHARS_MAX].rstrip()
    text = f'{_ANSWER} You said: "{excerpt}"' if excerpt else _ANSWER
    if chunks is None:
        return text
    words = itertools.cycle(text.split())
    return " ".join(itertools.islice(words, chunks))


def cut(text: str, tokens_max: int | None) -> tuple[str, bool]:
    """The text within a ceiling of tokens, and whether it had to be cut."""
    raw = text.encode()
    if tokens_max is None or len(raw) <= tokens_max * BYTES_PER_TOKEN:
        return text, False
    return raw[: tokens_max * BYTES_PER_TOKEN].decode(errors="ignore"), True


def text_of(content: object) -> str:
    """The text of a message's content: a string, or parts of which some are text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = (part.get("text") for part in content if isinstance(part, dict))
    return " ".join(text for text in texts if isinstance(text, str))


def positive(document: Document, *names: str) -> int | None:
    """The first of these fields that is given, as a whole number from 1 up. Raises Refusal."""
    for name in names:
        value = document.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong_type(name, "an integer")
        if value < 1:
            raise wrong_value(name, "an integer of at least 1")
        return value
    return None
