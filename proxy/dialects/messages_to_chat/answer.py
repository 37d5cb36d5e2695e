"""A chat completion, as Anthropic's message.

Pure. Sources: platform.openai.com/docs/api-reference/chat/object; platform.claude.com/docs/en/api/messages. The
text of a model's thinking is `reasoning_content` to DeepSeek and vLLM, `reasoning` to Groq and OpenRouter.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from proxy.core import jsonio
from proxy.core.errors import UpstreamMalformed
from proxy.dialects.messages_to_chat.extra_content import extra_content_block
from proxy.dialects.messages_to_chat.failure import messages_failure
from proxy.dialects.messages_to_chat.stream import MessagesStream
from proxy.dialects.messages_to_chat.usage import messages_id, messages_usage, stop_reason
from proxy.dialects.translation import NOT_AS_DOCUMENTED, StreamTranslator


class MessagesAnswers(NamedTuple):
    """Says the answers to one call. See `translation.AnswerTranslator`."""

    def whole(self, body: bytes) -> bytes:
        """A chat completion, as a message. Raises UpstreamMalformed."""
        try:
            return jsonio.encode(_message(jsonio.parse(body)))
        except NOT_AS_DOCUMENTED:
            raise UpstreamMalformed("The provider sent what is no chat completion. Try again.") from None

    def error(self, status: int, body: bytes) -> tuple[int, bytes]:
        """An error, in Anthropic's envelope."""
        return messages_failure(status, body)

    def stream(self) -> StreamTranslator:
        """For a stream of chunks."""
        return MessagesStream()


def _message(completion: Mapping[str, Any]) -> dict[str, Any]:
    choice = completion["choices"][0]
    said = choice["message"]
    calls = [call for call in said.get("tool_calls") or () if call.get("function") is not None]
    blocks: list[dict[str, Any]] = []
    thought = said.get("reasoning_content") or said.get("reasoning")
    if isinstance(thought, str) and thought:
        blocks.append({"type": "thinking", "thinking": thought, "signature": ""})
    blocks += [{"type": "text", "text": text} for text in (said.get("content"), said.get("refusal")) if text]
    extra = {call["id"]: call["extra_content"] for call in calls if call.get("extra_content") is not None}
    if extra:
        blocks.append(extra_content_block(extra))
    blocks += [_tool_use(call["id"], call["function"]) for call in calls]
    return {
        "id": messages_id(completion.get("id")),
        "type": "message",
        "role": "assistant",
        "model": completion["model"],
        "content": blocks,
        "stop_reason": stop_reason(choice.get("finish_reason"), calls_tools=bool(calls)),
        "stop_sequence": None,
        "usage": messages_usage(completion.get("usage")),
    }


def _tool_use(call_id: str, function: Mapping[str, Any]) -> dict[str, Any]:
    """A call. What the model wrote and is no JSON object cannot be said: to guess what it meant would be a lie."""
    arguments = function.get("arguments")
    parsed = jsonio.parse(arguments.encode()) if arguments else {}
    if not isinstance(parsed, dict):
        raise TypeError("arguments")
    return {"type": "tool_use", "id": call_id, "name": function["name"], "input": parsed}
