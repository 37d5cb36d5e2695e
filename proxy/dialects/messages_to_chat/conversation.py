"""Anthropic's turns, as a chat's messages.

Pure. Sources: platform.claude.com/docs/en/api/messages (messages, tool use);
platform.openai.com/docs/api-reference/chat/create (messages). A chat has one message for each tool's result, right
behind the message that called; what else the user says comes after them.
"""

from collections.abc import Mapping
from typing import Any, Final

from proxy.core import jsonio
from proxy.dialects.members import flag_of, messages_of, object_of, text_of, wrong
from proxy.dialects.messages_to_chat.content import Block, Part, blocks_in, only_text, parts_of, said
from proxy.dialects.messages_to_chat.extra_content import extra_content_in

# What another model thought, which this one neither wants nor could read.
_THOUGHT: Final = frozenset({"thinking", "redacted_thinking"})
_SPEAKING: Final = ("user", "assistant")
_ERROR: Final = "Error: "
"""Before the result of a tool that failed: a chat has no other way to say so."""


class Conversation:
    """Takes a call's turns in order. Then `messages` are the chat's, and `lost` the places of what was left out."""

    __slots__ = ("_called_at", "_has_extra_content", "_pending", "lost", "messages")

    def __init__(self, *, has_extra_content: bool) -> None:
        """`has_extra_content`: the provider wants back what came beside its tool calls."""
        self.messages: list[dict[str, Any]] = []
        self.lost: list[str] = []
        self._has_extra_content = has_extra_content
        self._pending: set[str] = set()  # what the last turn called, and nobody answered yet
        self._called_at = ""

    def take_system(self, system: object) -> None:
        """Take the system prompt. Raises InvalidParameter."""
        if system is not None and (parts := self._texts(system, "system")):
            self.messages.append({"role": "system", "content": said(parts)})

    def take_all(self, turns: object) -> None:
        """Take the whole conversation.

        Raises:
            InvalidParameter: it is not one that Anthropic's API takes.
            UnsupportedParameter: a part of it is nothing that a chat can say.
        """
        given = messages_of(turns)
        if not given:
            raise wrong("messages", "must hold a message of the user.")
        for index, item in enumerate(given):
            place = f"messages.{index}"
            turn = object_of(item, place)
            role, content = turn.get("role"), turn.get("content")
            if role in _SPEAKING and (text := only_text(content)) is not None:
                self._refuse_unanswered(place)
                self.messages.append({"role": role, "content": text})
                continue
            inside = f"{place}.content"
            if role == "user":
                self._take_user(blocks_in(content, inside), place)
            elif role == "assistant":
                self._refuse_unanswered(place)
                self._take_assistant(blocks_in(content, inside), place)
            elif role == "system":
                self._refuse_unanswered(place)
                parts = self._texts(content, inside)
                self.messages.append({"role": "system", "content": said(parts)})
            else:
                raise wrong(f"{place}.role", "must be user, assistant or system.")
        self._refuse_unanswered("the end")

    def _texts(self, content: object, place: str) -> list[Part]:
        parts: list[Part] = []
        for where, block in blocks_in(content, place):
            if block.get("type") != "text":
                raise wrong(where, "must be a block of text.")
            parts += parts_of(block, where)
        return parts

    def _take_user(self, blocks: list[tuple[str, Block]], place: str) -> None:
        spoken: list[Part] = []
        for where, block in blocks:
            if block.get("type") != "tool_result":
                self._refuse_unanswered(where)
                spoken += parts_of(block, where)
                continue
            # A chat's tool answers in text alone: what it shows is said by the user, behind all results.
            spoken += self._answer(block, where)
        self._refuse_unanswered(place)
        if spoken:
            self.messages.append({"role": "user", "content": said(spoken)})
        elif not blocks:
            raise wrong(f"{place}.content", "is empty. Leave the message out.")

    def _answer(self, block: Block, place: str) -> list[Part]:
        """Take a tool's result; give back what of it is no text."""
        call_id = text_of(block.get("tool_use_id"), f"{place}.tool_use_id")
        if call_id not in self._pending:
            raise wrong(place, "answers a call that the message of the assistant before it does not make.")
        self._pending.remove(call_id)
        content = block.get("content")
        inner = [] if content is None else blocks_in(content, f"{place}.content")
        parts = [part for where, each in inner for part in parts_of(each, where)]
        texts = [part["text"] for part in parts if part["type"] == "text"]
        if block.get("is_error") is not None and flag_of(block["is_error"], f"{place}.is_error"):
            texts.insert(0, _ERROR)
        self.messages.append({"role": "tool", "tool_call_id": call_id, "content": "".join(texts)})
        return [part for part in parts if part["type"] != "text"]

    def _take_assistant(self, blocks: list[tuple[str, Block]], place: str) -> None:
        spoken: list[Part] = []
        calls: list[dict[str, Any]] = []
        extra: dict[str, Any] = {}
        for where, block in blocks:
            kind = block.get("type")
            if kind == "text":
                spoken += parts_of(block, where)
            elif kind == "tool_use":
                calls.append(self._call(block, where))
            elif kind == "redacted_thinking":
                extra.update(extra_content_in(block, where))
            elif text_of(kind, f"{where}.type") not in _THOUGHT:
                self.lost.append(where)  # of a tool that ran at the other provider
        self._called_at = place
        message: dict[str, Any] = {"role": "assistant", "content": said(spoken) if spoken else None}
        if calls:
            if self._has_extra_content:
                for call in calls:
                    if call["id"] in extra:
                        call["extra_content"] = extra[call["id"]]
            message["tool_calls"] = calls
        elif not spoken:
            if not blocks:
                raise wrong(f"{place}.content", "is empty. Leave the message out.")
            return  # it only thought
        self.messages.append(message)

    def _call(self, block: Block, place: str) -> dict[str, Any]:
        call_id = text_of(block.get("id"), f"{place}.id")
        if call_id in self._pending:
            raise wrong(place, "has the id of another call of the same message.")
        self._pending.add(call_id)
        arguments: Mapping[str, Any] = object_of(block.get("input"), f"{place}.input")
        function = {
            "name": text_of(block.get("name"), f"{place}.name"),
            "arguments": jsonio.encode(arguments).decode(),
        }
        return {"id": call_id, "type": "function", "function": function}

    def _refuse_unanswered(self, place: str) -> None:
        if self._pending:
            call_id = min(self._pending)[:64]
            message = f"calls `{call_id}`, and no `tool_result` answers it before {place}."
            raise wrong(self._called_at, message)
