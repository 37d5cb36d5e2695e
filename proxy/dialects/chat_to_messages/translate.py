"""A call of Chat Completions, as a call of Anthropic's Messages.

Pure. Sources: platform.openai.com/docs/api-reference/chat/create; platform.claude.com/docs/en/api/messages.
"""

from collections.abc import Mapping
from typing import Any, Final

from proxy.dialects.chat_to_messages.answer import ChatAnswers
from proxy.dialects.chat_to_messages.conversation import Conversation
from proxy.dialects.chat_to_messages.effort import thinking_of
from proxy.dialects.chat_to_messages.losses import losses_in
from proxy.dialects.chat_to_messages.tools import FORCED, choice_of, tools_of
from proxy.dialects.claude_models import ClaudeModel, claude_model
from proxy.dialects.members import array_of, ceiling_of, flag_of, number_of, object_of, text_of, wrong
from proxy.dialects.translation import Document, TargetModel, Translated

# Messages wants a ceiling. Where nobody knows the model's own, every model of theirs allows this much.
_MAX_TOKENS_UNKNOWN: Final = 4_096
_TEMPERATURE_MAX: Final = 1
_TIERS: Final = {"auto": "auto", "default": "standard_only"}


def translate(document: Document, target: TargetModel, created_s: int) -> Translated:
    """See `translation.Translator`."""
    model = claude_model(target.name)
    lost = losses_in(document)
    conversation = Conversation(takes_system_within=model.takes_system_within)
    conversation.take_all(document.get("messages"))
    lost += conversation.lost
    body: dict[str, Any] = {"model": target.name, "max_tokens": _max_tokens(document, target)}
    if conversation.system:
        body["system"] = conversation.system
    body["messages"] = conversation.turns
    _write_tools(body, document, conversation, model, lost)
    _write_stop(body, document, lost)
    thinking = thinking_of(
        document, model, body["max_tokens"], body.get("tool_choice"), lacks_thinking=conversation.lacks_thinking
    )
    if thinking.is_lost:
        lost.append("reasoning_effort")
    if thinking.thinking is not None:
        body["thinking"] = thinking.thinking
    _write_sampling(body, document, model, lost)
    output_config = _output_config(document, target, lost)
    if thinking.effort is not None:
        output_config["effort"] = thinking.effort
    if output_config:
        body["output_config"] = output_config
    _write_account(body, document, lost)
    if document.get("cache_control") is not None:
        body["cache_control"] = document["cache_control"]  # Anthropic's own, as on a part
    if document.get("stream") is not None:
        body["stream"] = flag_of(document["stream"], "stream")
    return Translated(body, tuple(lost), ChatAnswers(created_s, reports_usage=_asks_for_usage(document)))


def _max_tokens(document: Document, target: TargetModel) -> int:
    """The caller's ceiling, up to what the model can write; without one, that."""
    name = "max_completion_tokens" if document.get("max_completion_tokens") is not None else "max_tokens"
    given = document.get(name)
    if given is None:
        return target.max_output_tokens or _MAX_TOKENS_UNKNOWN
    ceiling = ceiling_of(given, name)
    return min(ceiling, target.max_output_tokens or ceiling)


def _write_tools(
    body: dict[str, Any], document: Document, conversation: Conversation, model: ClaudeModel, lost: list[str]
) -> None:
    tools, choice = tools_of(document), choice_of(document)
    if tools:
        body["tools"] = tools
        if choice is not None and choice["type"] in FORCED and not model.takes_forced_tools:
            lost.append("tool_choice")
            choice = {**choice, "type": "auto"}
            choice.pop("name", None)
        if choice is not None:
            body["tool_choice"] = choice
        return
    if choice is not None and choice["type"] in FORCED:
        raise wrong("tool_choice", "wants a tool to be used, and `tools` holds none. Send the tools, or leave it out.")
    called = dict.fromkeys(
        block["name"] for turn in conversation.turns for block in turn["content"] if block["type"] == "tool_use"
    )
    if called:
        # Anthropic refuses a conversation in which tools were used, and none are there; OpenAI calls none then.
        body["tools"] = [{"name": name, "input_schema": {"type": "object"}} for name in called]
        body["tool_choice"] = {"type": "none"}


def _write_stop(body: dict[str, Any], document: Document, lost: list[str]) -> None:
    given = document.get("stop")
    if given is None:
        return
    texts = [given] if isinstance(given, str) else array_of(given, "stop")
    sequences = [text_of(text, f"stop.{index}") for index, text in enumerate(texts)]
    if any(not text.strip() for text in sequences):
        lost.append("stop")  # Anthropic takes none of white space alone
    if kept := [text for text in sequences if text.strip()]:
        body["stop_sequences"] = kept


def _write_sampling(body: dict[str, Any], document: Document, model: ClaudeModel, lost: list[str]) -> None:
    for name in ("temperature", "top_p"):
        given = document.get(name)
        if given is None:
            continue
        value = number_of(given, name)
        if value == 1:
            continue  # what holds without it
        is_taken = model.has_sampling and "thinking" not in body and 0 <= value <= _TEMPERATURE_MAX
        if is_taken and (model.takes_both_samplings or "temperature" not in body):
            body[name] = value
        else:
            lost.append(name)


def _output_config(document: Document, target: TargetModel, lost: list[str]) -> dict[str, Any]:
    given = document.get("response_format")
    if given is None:
        return {}
    answer_format = object_of(given, "response_format")
    kind = answer_format.get("type")
    if kind == "text":
        return {}
    if kind == "json_schema":
        place = "response_format.json_schema"
        schema = object_of(object_of(answer_format.get("json_schema"), place).get("schema"), f"{place}.schema")
        if target.capabilities is None or "json_schema" in target.capabilities:
            return {"format": {"type": "json_schema", "schema": schema}}
    elif kind != "json_object":
        raise wrong("response_format.type", "must be text, json_object or json_schema.")
    lost.append("response_format")
    return {}


def _write_account(body: dict[str, Any], document: Document, lost: list[str]) -> None:
    name = "safety_identifier" if document.get("safety_identifier") is not None else "user"
    if document.get(name) is not None:
        body["metadata"] = {"user_id": text_of(document[name], name)}
    tier = document.get("service_tier")
    if isinstance(tier, str) and tier in _TIERS:
        body["service_tier"] = _TIERS[tier]
    elif tier is not None:
        lost.append("service_tier")


def _asks_for_usage(document: Mapping[str, Any]) -> bool:
    options = document.get("stream_options")
    return options is not None and object_of(options, "stream_options").get("include_usage") is True
