"""Anthropic's answer, as one of Chat Completions.

Pure. Sources: platform.claude.com/docs/en/api/messages (message, stop reasons, usage);
platform.openai.com/docs/api-reference/chat/object. `reasoning_content` is what DeepSeek, vLLM and others call the text
of a model's thinking; clients know it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from proxy.core import jsonio
from proxy.core.errors import UpstreamMalformed
from proxy.dialects.chat_to_messages.failure import chat_failure
from proxy.dialects.chat_to_messages.stream import ChatStream
from proxy.dialects.chat_to_messages.thinking_blocks import KINDS, with_thinking
from proxy.dialects.chat_to_messages.usage import FINISH_REASONS, chat_id, chat_tier, chat_usage, refusal_of
from proxy.dialects.translation import NOT_AS_DOCUMENTED, StreamTranslator


class ChatAnswers(NamedTuple):
    """Says the answers to one call. See `translation.AnswerTranslator`."""

    created_s: int
    reports_usage: bool  # the caller asked for a stream's usage

    def whole(self, body: bytes) -> bytes:
        """A message, as a chat completion."""
        try:
            message = jsonio.parse(body)
            if message["type"] != "message":
                raise KeyError("type")
            return jsonio.encode(self._completion(message))
        except NOT_AS_DOCUMENTED:
            raise UpstreamMalformed("The provider sent what is no message of Anthropic's API. Try again.") from None

    def error(self, status: int, body: bytes) -> tuple[int, bytes]:
        """An error, in OpenAI's envelope."""
        return chat_failure(status, body)

    def stream(self) -> StreamTranslator:
        """For a stream of events."""
        return ChatStream(self.created_s, reports_usage=self.reports_usage)

    def _completion(self, message: Mapping[str, Any]) -> dict[str, Any]:
        said = _said(message["content"])
        said["refusal"] = refusal_of(message)
        choice = {
            "index": 0,
            "message": said,
            "logprobs": None,
            "finish_reason": FINISH_REASONS.get(message.get("stop_reason"), "stop"),
        }
        completion = {
            "id": chat_id(message["id"]),
            "object": "chat.completion",
            "created": self.created_s,
            "model": message["model"],
            "choices": [choice],
            "usage": chat_usage(message["usage"]),
        }
        tier = chat_tier(message["usage"])
        return completion if tier is None else {**completion, "service_tier": tier}


def _said(blocks: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The message that the blocks are. Blocks of tools that run at the provider say nothing in a chat."""
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    thinking: list[Mapping[str, Any]] = []  # since the last call: it goes out with the next
    for block in blocks:
        kind = block["type"]
        if kind == "text":
            texts.append(block["text"])
        elif kind in KINDS:
            thinking.append(block)
            thoughts.append(block.get("thinking", ""))
        elif kind == "tool_use":
            calls.append(_call(block, thinking))
            thinking = []
    said: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts else None, "refusal": None}
    if thought := "".join(thoughts):
        said["reasoning_content"] = thought
    if calls:
        said["tool_calls"] = calls
    return said


def _call(block: Mapping[str, Any], thinking: list[Mapping[str, Any]]) -> dict[str, Any]:
    function = {"name": block["name"], "arguments": jsonio.encode(block["input"]).decode()}
    call: dict[str, Any] = {"id": block["id"], "type": "function", "function": function}
    return {**call, "extra_content": with_thinking(thinking)} if thinking else call
