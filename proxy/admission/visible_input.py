"""What of a call's input stands in its body, and what does not.

Pure. Text in the body has at most as many tokens as bytes. Pictures have the model's own bound;
everything else that the provider looks up or decodes (files, sound, films, addresses, earlier
turns) is out of sight and holds the context window. Whatever is not known here counts as that.
Sources: the API references and SDK types of OpenAI and Anthropic.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from proxy.dialects.splice import may_hide_names


class Visible(NamedTuple):
    """What was seen of an input."""

    is_whole: bool  # False: some of it is somewhere else
    pictures: int = 0
    sealed_bytes: int = 0  # of what only the provider can read: reasoning that is handed back


_PICTURES: Final = frozenset({"computer_screenshot", "image", "image_url", "input_image", "image_generation_call"})
_TEXTS: Final = frozenset(
    """
    additional_tools agent_message apply_patch_call apply_patch_call_output compaction computer_call
    computer_call_output custom_tool_call custom_tool_call_output fallback function_call function_call_output
    input_text local_shell_call local_shell_call_output mcp_approval_request mcp_approval_response mcp_call
    mcp_list_tools message output_text reasoning reasoning_text redacted_thinking refusal search_result
    server_tool_use shell_call shell_call_output summary_text text thinking tool_result tool_use
    web_search_result web_search_tool_result
    """.split()
)
# Where an item of those kinds may hold further items.
_INSIDE: Final = ("content", "output", "summary")
# A message's fields that hold more than a plain value; all of it is text.
_PLAIN_FIELDS: Final = frozenset(
    """
    acknowledged_safety_checks action annotations arguments cache_control caller citations content
    extra_content function_call input logprobs output pending_safety_checks phase prompt_cache_breakpoint
    reasoning reasoning_details result status summary tool_calls tools
    """.split()
)
# Fields of one that are common, with a plain value; and that say what it is, in whatever case.
_PLAIN_VALUES: Final = frozenset({"call_id", "id", "image_url", "name", "role", "text", "tool_call_id", "type"})
_TELLING: Final = frozenset({"type", *_INSIDE})
_SEALED: Final = frozenset({"data", "encrypted_content", "encrypted_index", "signature", "thought_signature"})
# Fields of a body, beside the input itself, that are no input or are all text.
_BODY_FIELDS: Final = frozenset(
    """
    access_programs audio cache_control context_management diagnostics frequency_penalty function_call functions
    guided_json include input instructions logit_bias messages metadata modalities moderation output_config
    prediction prompt prompt_cache_options provider reasoning response_format stop stop_sequences
    stop_token_ids stream_options system text thinking tool_choice tools truncation web_search_options
    """.split()
)
_INPUTS: Final = frozenset({"messages", "input", "system"})
_MESSAGE: Final = frozenset({"role", "content"})
_NESTED: Final = (dict, list)
_ELSEWHERE: Final = frozenset({"previous_response_id", "conversation", "cached_content"})


def look(operation_name: str, document: Mapping[str, Any], text: bytes) -> Visible:
    """See what a parsed body holds. `text` is that body, decompressed."""
    if not _ELSEWHERE.isdisjoint(document) and any(document.get(name) is not None for name in _ELSEWHERE):
        return Visible(False)
    if isinstance(document.get("prompt"), dict):
        return Visible(False)
    for name in document.keys() - _BODY_FIELDS:
        value = document[name]
        if value and isinstance(value, _NESTED):
            return Visible(False)
    pictures = 0
    for item in _items(operation_name, document):
        if _is_plain_message(item):
            continue
        seen = _pictures_in(item)
        if seen is None:
            return Visible(False)
        pictures += seen
    sealed_bytes = 0
    if b"signature" in text or b"encrypted" in text or b"redacted" in text or may_hide_names(text):
        sealed_bytes = _sealed_bytes(document)
    return Visible(True, pictures, sealed_bytes)


def _items(operation_name: str, document: Mapping[str, Any]) -> Sequence[object]:
    """All that may hold more than text, in any order."""
    if operation_name in ("embeddings", "moderations"):
        # Texts, or token ids, each of which is a digit and a comma at least.
        return [item for item in _listed(document.get("input")) if isinstance(item, dict)]
    items: list[object] = []
    for name in _INPUTS & document.keys():
        items += _listed(document[name])
    return items


def _listed(given: object) -> list[object]:
    if isinstance(given, list):
        return given
    return [given] if isinstance(given, dict) else []


def _is_plain_message(item: object) -> bool:
    """True for most messages: nothing but who says what."""
    if not isinstance(item, dict) or item.keys() != _MESSAGE:
        return False
    return isinstance(item["content"], str) and isinstance(item["role"], str)


def _pictures_in(item: object) -> int | None:
    """The pictures in one message or part; None where anything of it is out of sight."""
    pictures = 0
    pending = [item]
    while pending:
        node = pending.pop()
        if not isinstance(node, dict):
            continue  # plain text
        kind = node.get("type")
        if not (kind is None or isinstance(kind, str)):
            return None
        if kind in _PICTURES:
            pictures += 1
            continue
        if kind == "document" and _is_text_document(node):
            continue
        # Some servers go by the names of a part's fields where it has no type.
        if not (kind in _TEXTS or (kind is None and ("role" in node or node.keys() == {"text"}))):
            return None
        for name, value in node.items():
            if name in _INSIDE:
                pending += value if isinstance(value, list) else [value]
            elif value and isinstance(value, _NESTED) and name not in _PLAIN_FIELDS:
                return None
            elif name not in _PLAIN_VALUES and name.casefold() in _TELLING:
                return None  # to some a part of another kind
    return pictures


def _is_text_document(node: Mapping[str, Any]) -> bool:
    source = node.get("source")
    return isinstance(source, dict) and source.get("type") == "text"


def _sealed_bytes(document: Mapping[str, Any]) -> int:
    """The length of all strings that only the provider can read, wherever they stand."""
    total = 0
    pending: list[object] = [document]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending += node
        elif isinstance(node, dict):
            for name, value in node.items():
                if isinstance(value, str):
                    total += len(value) if name in _SEALED else 0
                elif isinstance(value, _NESTED):
                    pending.append(value)
    return total
