"""A call of Anthropic's Messages, as a call of Chat Completions.

Pure. Sources: platform.claude.com/docs/en/api/messages; platform.openai.com/docs/api-reference/chat/create.
"""

from collections.abc import Mapping
from typing import Any, Final

from proxy.dialects.members import array_of, ceiling_of, flag_of, number_of, object_of, text_of, wrong
from proxy.dialects.messages_to_chat.answer import MessagesAnswers
from proxy.dialects.messages_to_chat.conversation import Conversation
from proxy.dialects.messages_to_chat.tools import write_tools
from proxy.dialects.translation import Document, TargetModel, Translated

_STOPS_MAX: Final = 4
_USER_CHARACTERS_MAX: Final = 64
# From so many tokens of a budget on, this effort.
_EFFORTS: Final = ((16_384, "high"), (4_096, "medium"), (0, "low"))
# The efforts that all of OpenAI's reasoning models have; what is above them is the highest of them.
_COMMON: Final = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
_TIERS: Final = {"auto": "auto", "standard_only": "default"}
# Said in a chat, in whole or by the modules beside this one.
_SAID: Final = frozenset(
    {
        "max_tokens",
        "messages",
        "metadata",
        "model",
        "output_config",
        "output_format",
        "service_tier",
        "stop_sequences",
        "stream",
        "system",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_p",
    }
)
# Without them the answer is the same: OpenAI and its like keep prompts in their caches by themselves.
_SAVING: Final = frozenset({"cache_control", "diagnostics"})
_IDLE: Final[Mapping[str, tuple[object, ...]]] = {"speed": ("standard",), "mcp_servers": ([],), "betas": ([],)}


def translate(document: Document, target: TargetModel, created_s: int) -> Translated:
    """See `translation.Translator`."""
    lost = _losses_in(document)
    conversation = Conversation(has_extra_content=target.dialect.has_extra_content)
    conversation.take_system(document.get("system"))
    conversation.take_all(document.get("messages"))
    lost += conversation.lost
    body: dict[str, Any] = {"model": target.name, "messages": conversation.messages}
    body[target.dialect.ceiling_name] = _ceiling(document, target)
    write_tools(body, document, lost)
    _write_stop(body, document, lost)
    for name in ("temperature", "top_p"):
        if document.get(name) is not None and (value := number_of(document[name], name)) != 1:
            body[name] = value  # 1 is what holds without it, and some models refuse to be told
    _write_effort(body, document, target, lost)
    _write_format(body, document)
    _write_account(body, document, target)
    if document.get("stream") is not None and flag_of(document["stream"], "stream"):
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}  # a stream of Messages always tells it
    return Translated(body, tuple(lost), MessagesAnswers())


def _losses_in(document: Document) -> list[str]:
    return [
        name
        for name, value in document.items()
        if not (name in _SAID or name in _SAVING or value is None or value in _IDLE.get(name, ()))
        and not (name == "context_management" and _clears_thinking_alone(value))
    ]


def _clears_thinking_alone(management: object) -> bool:
    """True for edits that only say how much thinking of earlier turns is kept: here none is ever sent on."""
    edits = management.get("edits") if isinstance(management, dict) else None
    if not isinstance(edits, list):
        return False
    return all(isinstance(edit, dict) and str(edit.get("type")).startswith("clear_thinking") for edit in edits)


def _ceiling(document: Document, target: TargetModel) -> int:
    """The caller's ceiling, up to what the model can write at all: it would refuse more."""
    ceiling = ceiling_of(document.get("max_tokens"), "max_tokens")
    return min(ceiling, target.max_output_tokens or ceiling)


def _write_stop(body: dict[str, Any], document: Document, lost: list[str]) -> None:
    given = document.get("stop_sequences")
    if given is None:
        return
    sequences = [
        text_of(text, f"stop_sequences.{index}") for index, text in enumerate(array_of(given, "stop_sequences"))
    ]
    if len(sequences) > _STOPS_MAX:
        lost.append("stop_sequences")
    if sequences:
        body["stop"] = sequences[:_STOPS_MAX]


def _write_effort(body: dict[str, Any], document: Document, target: TargetModel, lost: list[str]) -> None:
    effort = _effort(document)
    if effort is None:
        return
    if not effort:
        return  # as hard as it likes may be not at all
    if target.capabilities is None or "reasoning" in target.capabilities:
        body["reasoning_effort"] = effort
    else:
        asked = (document.get("output_config") or {}).get("effort")
        lost.append("thinking" if asked is None else "output_config.effort")


def _effort(document: Document) -> str | None:
    """How hard to think; empty: as hard as the model likes; None: nothing is said of it."""
    config = document.get("output_config")
    given = None if config is None else object_of(config, "output_config").get("effort")
    effort = None if given is None else _COMMON.get(text_of(given, "output_config.effort"))
    if given is not None and effort is None:
        raise wrong("output_config.effort", f"must be one of {', '.join(_COMMON)}.")
    thinking = document.get("thinking")
    if thinking is None:
        return effort
    place = object_of(thinking, "thinking")
    kind = text_of(place.get("type"), "thinking.type")
    if kind == "disabled":
        return effort
    if kind == "enabled" and effort is None:
        budget = number_of(place.get("budget_tokens"), "thinking.budget_tokens")
        return next((name for least, name in _EFFORTS if budget >= least), "low")
    return effort or ""


def _write_format(body: dict[str, Any], document: Document) -> None:
    config = document.get("output_config")
    given = None if config is None else object_of(config, "output_config").get("format")
    place = "output_config.format"
    if given is None:
        given, place = document.get("output_format"), "output_format"  # its first name
    if given is None:
        return
    answer_format = object_of(given, place)
    if answer_format.get("type") != "json_schema":
        raise wrong(f"{place}.type", "must be json_schema.")
    schema = object_of(answer_format.get("schema"), f"{place}.schema")
    body["response_format"] = {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": True},
    }


def _write_account(body: dict[str, Any], document: Document, target: TargetModel) -> None:
    """What is for the provider's books alone goes to those who keep such books; it changes no answer."""
    metadata = document.get("metadata")
    user = None if metadata is None else object_of(metadata, "metadata").get("user_id")
    tier = document.get("service_tier")
    written = None if tier is None else _TIERS.get(text_of(tier, "service_tier"))
    if tier is not None and written is None:
        raise wrong("service_tier", "must be auto or standard_only.")
    if not target.dialect.knows_accounts:
        return
    if user is not None and len(text_of(user, "metadata.user_id")) <= _USER_CHARACTERS_MAX:
        body["user"] = user
    if written is not None:
        body["service_tier"] = written
