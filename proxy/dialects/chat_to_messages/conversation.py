"""A chat's messages, as Anthropic's turns.

Pure. Sources: platform.openai.com/docs/api-reference/chat/create (messages);
platform.claude.com/docs/en/api/messages (messages, system, tool use). Anthropic wants the results of all tools
that one turn called in the one turn after it, before anything else.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from proxy.core import jsonio
from proxy.core.errors import InvalidJson, UnsupportedParameter
from proxy.dialects.chat_to_messages.content import Block, blocks_of, is_blank, texts_of
from proxy.dialects.chat_to_messages.thinking_blocks import thinking_in
from proxy.dialects.members import array_of, messages_of, object_of, text_of, wrong

_TOOL_ID: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_ROLES: Final = "system, developer, user, assistant, tool or function"


class Conversation:
    """Takes a chat's messages in order. Then:

    - `system`: the blocks of the system prompt.
    - `turns`: the messages, as Anthropic's API has them.
    - `lost`: the places of what was left out.
    - `lacks_thinking`: the turn whose tools are being answered came back without its thinking.
    """

    __slots__ = (
        "_called_at",
        "_pending",
        "_takes_system_within",
        "_waiting",
        "lacks_thinking",
        "lost",
        "system",
        "turns",
    )

    def __init__(self, *, takes_system_within: bool) -> None:
        """`takes_system_within`: the model takes a system message within the conversation, behind a turn of the
        user's and before one of its own (/docs/en/build-with-claude/mid-conversation-system-messages). One that
        stands elsewhere waits for the user's next turn: what was said so far stays as it is, and with it what the
        provider has cached and signed of it. For other models, and where no such turn comes, it goes behind the
        system prompt: its words and their weight are kept, its place is not."""
        self.system: list[Block] = []
        self.turns: list[dict[str, Any]] = []
        self.lost: list[str] = []
        self.lacks_thinking = False
        self._takes_system_within = takes_system_within
        self._waiting: list[Block] = []  # of the system's, until the user's turn is over
        self._pending: dict[str, str] = {}  # what the last turn called and nobody answered yet: its id there and here
        self._called_at = ""

    def take_all(self, messages: object) -> None:
        """Take the whole chat.

        Raises:
            InvalidParameter: it is not one that either API takes.
            UnsupportedParameter: a part of it is nothing that Messages can say.
        """
        for index, message in enumerate(messages_of(messages)):
            place = f"messages.{index}"
            self._take(object_of(message, place), place)
        self._refuse_unanswered("messages")
        self._end_waiting()
        if not self.turns:
            raise wrong("messages", "must hold a message of the user's or the assistant's.")
        last = self.turns[-1]["content"][-1]
        if self.turns[-1]["role"] == "assistant" and last["type"] == "text":
            last["text"] = last["text"].rstrip()  # what the model is to go on from may not end in white space

    def _take(self, message: Mapping[str, Any], place: str) -> None:
        role = message.get("role")
        if role == "user":
            self._refuse_unanswered(place)
            self._add("user", self._spoken(message, place))
        elif role == "assistant":
            self._refuse_unanswered(place)
            self._end_waiting()
            self._take_assistant(message, place)
        elif role == "tool":
            call_id = text_of(message.get("tool_call_id"), f"{place}.tool_call_id")
            self._answer(call_id, message, place)
        elif role == "function":
            self._answer(_function_id(text_of(message.get("name"), f"{place}.name")), message, place)
        elif role in ("system", "developer"):
            self._refuse_unanswered(place)
            self._take_system(message, place)
        else:
            raise wrong(f"{place}.role", f"must be {_ROLES}.")

    def _spoken(self, message: Mapping[str, Any], place: str) -> list[Block]:
        blocks = _content(message, place)
        if not blocks:
            raise wrong(f"{place}.content", "is empty. Anthropic's models take no empty message: leave it out.")
        self._note_name(message, place)
        return blocks

    def _take_system(self, message: Mapping[str, Any], place: str) -> None:
        blocks = texts_of(message.get("content"), f"{place}.content")
        self._note_name(message, place)
        if self._takes_system_within and self.turns:
            self._waiting += blocks
        else:
            self.system += blocks

    def _end_waiting(self) -> None:
        if self._waiting and self.turns[-1]["role"] == "user":
            self._add("system", self._waiting)
        else:
            self.system += self._waiting
        self._waiting = []

    def _take_assistant(self, message: Mapping[str, Any], place: str) -> None:
        if message.get("audio") is not None:
            raise UnsupportedParameter(
                f"`{place}.audio` is a sound that another provider keeps. Send what was said as `content`.",
                param=f"{place}.audio",
            )
        blocks = _content(message, place)
        refusal = message.get("refusal")
        if refusal is not None and not is_blank(text := text_of(refusal, f"{place}.refusal")):
            blocks.append({"type": "text", "text": text})
        calls, thinking = self._calls(message, place)
        if not blocks and not calls:
            raise wrong(f"{place}.content", "is empty, and no tool is called. Leave the message out.")
        self._note_name(message, place)
        self._add("assistant", [*thinking, *blocks, *calls])
        self.lacks_thinking = bool(calls) and not thinking

    def _calls(self, message: Mapping[str, Any], place: str) -> tuple[list[Block], list[Block]]:
        """What the turn calls, each with the thinking that led to it; and the thinking before the first."""
        given, function = message.get("tool_calls"), message.get("function_call")
        calls: list[Block] = []
        first: list[Block] = []
        if given is None and function is None:
            return calls, first
        for index, item in enumerate([] if given is None else array_of(given, f"{place}.tool_calls")):
            where = f"{place}.tool_calls.{index}"
            call = object_of(item, where)
            if call.get("type", "function") != "function":
                raise UnsupportedParameter(
                    f"`{where}` is no function's call, and Anthropic's models know no other.", param=where
                )
            thinking = thinking_in(call, where)
            if index == 0:
                first = thinking  # it stands before what was said, too
            else:
                calls += thinking
            call_id = text_of(call.get("id"), f"{where}.id")
            calls.append(self._call(call_id, object_of(call.get("function"), f"{where}.function"), f"{where}.function"))
        if function is not None:  # the API's first form
            where = f"{place}.function_call"
            name = object_of(function, where).get("name")
            calls.append(self._call(_function_id(text_of(name, f"{where}.name")), function, where))
        self._called_at = place
        return calls, first

    def _call(self, call_id: str, function: Mapping[str, Any], place: str) -> Block:
        if call_id in self._pending:
            raise wrong(place, "has the id of another call of the same message.")
        own_id = self._pending[call_id] = _own_id(call_id)
        name = text_of(function.get("name"), f"{place}.name")
        arguments = _arguments(function.get("arguments"), f"{place}.arguments")
        return {"type": "tool_use", "id": own_id, "name": name, "input": arguments}

    def _answer(self, call_id: str, message: Mapping[str, Any], place: str) -> None:
        own_id = self._pending.pop(call_id, None)
        if own_id is None:
            raise wrong(place, "answers a call that the message of the assistant before it does not make.")
        block: Block = {"type": "tool_result", "tool_use_id": own_id}
        if content := _content(message, place):
            block["content"] = content
        self._add("user", [block])

    def _add(self, role: str, blocks: list[Block]) -> None:
        if role == "user" and blocks[0]["type"] != "tool_result":
            self.lacks_thinking = False  # of what was thought before the user spoke again, none is wanted
        if self.turns and self.turns[-1]["role"] == role:
            self.turns[-1]["content"] += blocks
        else:
            self.turns.append({"role": role, "content": blocks})

    def _refuse_unanswered(self, place: str) -> None:
        if self._pending:
            call_id = next(iter(self._pending))[:64]
            message = f"calls `{call_id}`, and no message of the role `tool` answers it before {place}."
            raise wrong(self._called_at, message)

    def _note_name(self, message: Mapping[str, Any], place: str) -> None:
        if message.get("name") is not None:
            self.lost.append(f"{place}.name")


def _content(message: Mapping[str, Any], place: str) -> list[Block]:
    content = message.get("content")
    if isinstance(content, str) and content and not content.isspace():  # nearly all are, and need no place to be named
        return [{"type": "text", "text": content}]
    return blocks_of(content, f"{place}.content")


def _function_id(name: str) -> str:
    return f"function-{name}"


def _own_id(call_id: str) -> str:
    """The id that Anthropic takes for it: other providers' may hold dots and colons."""
    return call_id if _TOOL_ID.fullmatch(call_id) else f"call-{call_id.encode('utf-8', 'replace').hex()}"


def _arguments(value: object, place: str) -> Any:
    text = text_of(value, place)
    if not text:
        return {}  # what some clients write for none
    try:
        return object_of(jsonio.parse(text.encode()), place)
    except (InvalidJson, UnicodeEncodeError):
        raise wrong(place, "must be a JSON object, written as a string.") from None
