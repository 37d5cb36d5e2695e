"""What a simulated model answers: decided by the request alone, whatever API it came in.

The last words of the user choose: `call` calls the first tool, `call both` two at once, `call twice` in two rounds;
`refuse` is refused; anything else is said back. Results of tools, pictures and a schema are answered first.
A token is a word: of all texts of the request for the input, of the answer for the output.
"""

import json
from dataclasses import dataclass, field
from typing import Any

THOUGHT = "Let me think about it."
REFUSAL = "I will not say that."
CACHED = 3
"""Of the input, what was read from the cache where the user says `cached`."""


@dataclass
class Asked:
    """A request, read."""

    said: str = ""
    texts: list[str] = field(default_factory=list)
    tools: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    results: list[str] = field(default_factory=list)  # since the user last spoke
    rounds: int = 0  # of calls of tools since then
    pictures: list[tuple[str, int]] = field(default_factory=list)  # media type or URL, bytes
    files: list[str] = field(default_factory=list)
    schema: dict[str, Any] | None = None
    ceiling: int | None = None
    thinks: bool = False
    may_call: bool = True
    must_call: str | None = None  # a tool's name, or empty for any

    def hear(self, text: str) -> None:
        """The user says a text."""
        self.said = text
        self.texts.append(text)
        self.results.clear()
        self.rounds = 0


@dataclass
class Turn:
    """What is answered."""

    text: str = ""
    calls: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)  # id, name, arguments
    thinking: str = ""
    is_refused: bool = False
    is_cut: bool = False
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0


def decide(asked: Asked) -> Turn:
    """The answer."""
    turn = _turn(asked)
    words = turn.text.split(" ") if turn.text else []
    if asked.ceiling is not None and len(words) > asked.ceiling:
        turn.text, turn.is_cut = " ".join(words[: asked.ceiling]), True
    turn.thinking = THOUGHT if asked.thinks else ""
    turn.input_tokens = sum(len(text.split()) for text in asked.texts) + 1
    turn.cached_tokens = min(CACHED, turn.input_tokens) if "cached" in asked.said else 0
    turn.output_tokens = len(turn.text.split()) + 5 * len(turn.calls) + len(turn.thinking.split()) + 1
    return turn


def _turn(asked: Asked) -> Turn:
    wants = asked.said.startswith("call") or asked.must_call is not None
    if asked.tools and asked.may_call and wants and asked.rounds < (2 if asked.said == "call twice" else 1):
        names = [asked.must_call] if asked.must_call else [name for name, _ in asked.tools]
        count = 2 if asked.said == "call both" else 1
        schemas = dict(asked.tools)
        chosen = [names[index % len(names)] for index in range(count)]
        return Turn(
            calls=[
                (f"call_{asked.rounds}_{index}", name, example_of(schemas[name])) for index, name in enumerate(chosen)
            ]
        )
    if asked.results:
        return Turn(text="The tools said: " + "; ".join(asked.results))
    if asked.schema is not None:
        return Turn(text=json.dumps(example_of(asked.schema)))
    if asked.said == "refuse":
        return Turn(text=REFUSAL, is_refused=True)
    seen = [f"{kind} of {size} bytes" for kind, size in asked.pictures] + asked.files
    return Turn(text="I see " + ", ".join(seen) if seen else f"You said: {asked.said}")


def example_of(schema: dict[str, Any]) -> dict[str, Any]:
    """An object that has what the schema requires."""
    properties = schema.get("properties") or {}
    values = {"string": "Paris", "integer": 7, "number": 1.5, "boolean": True, "array": [], "object": {}}
    return {name: values[properties.get(name, {}).get("type", "string")] for name in schema.get("required") or []}


def pieces(text: str) -> list[str]:
    """A text as it is streamed: word by word."""
    words = text.split(" ")
    return [word if index == 0 else f" {word}" for index, word in enumerate(words)] if text else []
