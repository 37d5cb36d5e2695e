"""One turn of the simulated assistant: words, a JSON value, or a tool call, within a ceiling.

Pure. Chat Completions, Responses and Completions dress the same turn in their own formats.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from proxy.core import jsonio
from proxy.simulated import words
from proxy.simulated.tools import Tool, sample

_ARGUMENT_PIECE_CHARS: Final = 8


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a request says, whatever its format."""

    last: str  # the newest words of the user
    input_tokens: int  # of everything that was sent
    tool: Tool | None = None  # to be called
    json_schema: Mapping[str, Any] | None = None  # the answer is to be such a value
    output_tokens_max: int | None = None
    chunks: int | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """What is answered: words, or a call of `tool` with the text as its arguments."""

    text: str
    tool: Tool | None
    was_cut: bool  # the ceiling was reached
    input_tokens: int
    output_tokens: int

    def pieces(self) -> list[str]:
        """The text as a stream's deltas."""
        if self.tool is None:
            return words.pieces(self.text)
        return [self.text[at : at + _ARGUMENT_PIECE_CHARS] for at in range(0, len(self.text), _ARGUMENT_PIECE_CHARS)]


def take(prompt: Prompt) -> Turn:
    """Answer a prompt. Raises Refusal where a schema is none."""
    if prompt.tool is not None:
        full = jsonio.encode(sample(prompt.tool.parameters, "tools")).decode()
        full = "{}" if full == "null" else full  # a tool without parameters
    elif prompt.json_schema is not None:
        full = jsonio.encode(sample(prompt.json_schema, "response_format")).decode()
    else:
        full = words.say(prompt.last, prompt.chunks)
    text, was_cut = words.cut(full, prompt.output_tokens_max)
    return Turn(text, prompt.tool, was_cut, prompt.input_tokens, words.count_tokens(text))
