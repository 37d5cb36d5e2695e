"""What in a call names an object that the provider holds: a file, a batch, a stored response.

Pure. While tenants share one provider key such names reach whatever any of them left at the
provider, so both questions fail closed: what is not understood counts as naming an object.
Source: the API references of OpenAI, Anthropic, Gemini, Mistral and xAI.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from proxy.core import jsonio
from proxy.dialects.letter_case import misread_name
from proxy.dialects.openai import ASKING_PATHS, OBJECT_FAMILIES, path_parts
from proxy.dialects.splice import count_members, may_hide_names
from proxy.dialects.stored_items import has_id, is_id_alone

# ── paths ────────────────────────────────────────────────────────────────────────────────

_KEPT: Final = OBJECT_FAMILIES | {
    "account",
    "accounts",
    "admin",
    "admin_api_keys",
    "api_keys",
    "billing",
    "cachedContents",  # Gemini's own API
    "chatkit",
    "corpora",
    "credits",
    "environments",
    "fine-tunes",
    "invites",
    "key",
    "keys",
    "load_lora_adapter",  # vLLM's: for every caller of the server
    "memory_stores",
    "organization",
    "organizations",
    "projects",
    "prompts",
    "sessions",
    "tunedModels",
    "unload_lora_adapter",
    "users",
    "voice_consents",
    "voices",
    "webhooks",
}
# What is left of a segment where nobody could read it as one of these: no letters' case, no
# hyphen, no underscore, and nothing of `files.json` or `files:upload` behind the name.
_BARE_NAME: Final = re.compile(r"[^.:]*")
_HELD: Final = frozenset(name.lower().replace("-", "").replace("_", "") for name in _KEPT)
# Asking paths that have objects below them: all but the asking itself is about those.
_STORED_BELOW: Final = frozenset({("chat", "completions"), ("responses",), ("messages",)})
_ID_PREFIX: Final = re.compile(r"[a-z]+")
_ID_BODY: Final = re.compile(r"[a-z0-9]{8,}")
_ID_BODY_CHARACTERS_MIN_WITHOUT_DIGIT: Final = 20
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DATE: Final = re.compile(r"20\d{6}")


def path_names_object(method: str, segments: tuple[str, ...]) -> bool:
    """True where a path lists, makes, reads or changes what the provider keeps.

    Free are the POSTs that ask for a new answer (chat completions, responses, embeddings, …),
    `GET models` and `GET models/{id}`. Of paths that nobody here knows, a POST is free that
    has neither a known family of objects nor anything like an object's id in it; every other
    method counts. Upper case, a trailing slash and another `v1` in front hide nothing.
    """
    if method == "POST" and segments in ASKING_PATHS:
        return False
    parts = path_parts(segments)
    if method == "POST" and parts in ASKING_PATHS:
        return False
    if method in ("GET", "HEAD") and parts[:1] == ("models",):
        return False
    if method != "POST" or any(parts[: len(path)] == path for path in _STORED_BELOW):
        return True
    return any(_is_held(part) or _is_object_id(part) for part in parts)


def _is_held(part: str) -> bool:
    bare = _BARE_NAME.match(part)
    return bare is not None and bare[0].replace("-", "").replace("_", "") in _HELD


def _is_object_id(part: str) -> bool:
    """True for `file-AbC123xyz`, `vs_68a1f…`, `msgbatch_01Hk…`, a UUID, `ft:gpt-5:acme::id`."""
    if part.startswith("ft:") or _UUID.fullmatch(part):
        return True
    first, *rest = re.split(r"[_-]", part)
    return bool(rest) and _ID_PREFIX.fullmatch(first) is not None and any(map(_is_id_body, rest))


def _is_id_body(piece: str) -> bool:
    if _ID_BODY.fullmatch(piece) is None or _DATE.fullmatch(piece) is not None:
        return False  # dates end the names of models
    # A random id may lack digits by chance; then its length gives it away.
    return not piece.isalpha() or len(piece) >= _ID_BODY_CHARACTERS_MIN_WITHOUT_DIGIT


# ── bodies ───────────────────────────────────────────────────────────────────────────────

# The way back to the top: the parent's link and the step from there; None is the top itself.
_Link: TypeAlias = "tuple[_Link, str | int] | None"

# Names whose string, or list of strings, is an object's id wherever they stand, in any case: Go's
# encoding/json, and what is written like it, reads `File_ID` as `file_id`.
_NAMING: Final = frozenset(
    {
        "cachedcontent",
        "cached_content",
        "collection_ids",
        "connector_id",
        "container",
        "container_id",
        "file_id",
        "file_ids",
        "file_uri",
        "fileuri",
        "input_file_id",
        "library_ids",
        "skill_id",
        "vector_store_id",
        "vector_store_ids",
    }
)
# Names whose object has an `id`: a container, an earlier spoken answer, a voice of one's own.
_NAMING_BY_ID: Final = frozenset({"audio", "container", "voice"})
_NAMES: Final = _NAMING | _NAMING_BY_ID
_NAMING_AT_TOP: Final = ("previous_response_id", "conversation")
_MAYBE_NAMING_AT_TOP: Final = frozenset({*_NAMING_AT_TOP, "prompt"})
# Where a string does not begin with one of these letters, none of the names is compared.
_FIRST_LETTERS: Final = "".join(sorted({name[0] for name in (*_NAMES, "item_reference")}))
_TELLTALE: Final = re.compile(
    f'"(?=[{_FIRST_LETTERS}])(?:({"|".join(sorted(_NAMES))})"[ \\t\\n\\r]*+:|(item_reference)")'.encode(), re.IGNORECASE
)
# What Go reads as `s` and `k` beyond ASCII, in UTF-8 and escaped. One pass of the regex engine over a literal costs
# less than a search for a substring, and far less than alternatives do.
_FOLDED: Final = tuple((letter[:1], re.compile(letter)) for letter in ("\u017f".encode(), "\u212a".encode()))
_ESCAPE: Final = re.compile(rb"\\u")
_FOLDED_ESCAPES: Final = (re.compile(rb"\\u017[fF]"), re.compile(rb"\\u212[aA]"))
# The provider's own connectors, the same for every account; the request brings its authorization
# (platform.openai.com/docs/guides/tools-connectors-mcp).
_PUBLIC_CONNECTORS: Final = frozenset(
    "connector_" + name
    for name in (
        "dropbox",
        "gmail",
        "googlecalendar",
        "googledrive",
        "microsoftteams",
        "outlookcalendar",
        "outlookemail",
        "sharepoint",
    )
)
# Gemini takes a film's address where it takes that of a file it keeps.
_PUBLIC_VIDEOS: Final = ("https://www.youtube.com/", "https://youtu.be/")
# What a model asked a tool for is the tool's business: the provider looks nothing up in it.
_TOOL_USES: Final = frozenset({"mcp_tool_use", "server_tool_use", "tool_use"})
_PATH_CHARACTERS_MAX: Final = 200
_TYPE: Final = frozenset({"type"})


def body_names_object(document: Mapping[str, Any], raw: bytes) -> str | None:
    """The JSON path of the first field that names an object; None where there is none.

    `raw` is the body's text and `document` that text, parsed. Nulls and empty lists name
    nothing; an item of `input` that is handed back with both its content and its id is the
    content (`stored_items`). Where a name that could hide an object stands twice, so that
    another reader may see it, the body counts as naming one.
    """
    named = _named_at_top(document)
    if named is not None:
        return named
    items = document.get("input")
    have_ids = False
    if isinstance(items, list):
        named, have_ids = _named_by_item(items)
        if named is not None:
            return named
    telltale = _TELLTALE.search(raw)
    # What an item consists of may stand twice, once empty: the type that decides on it too.
    if telltale is None and not _may_be_disguised(raw) and (not have_ids or _is_as_parsed(document, raw)):
        return None
    named, members = _walk(document)
    if named is None and members != count_members(raw):
        return "input" if telltale is None else (telltale[1] or telltale[2]).decode()
    return named


_NAME_PARTS: Final = re.compile(r"[^\[\].]+")


def field_names_object(name: str) -> bool:
    """True where a form's field of this name would: `file_id`, `images[0][file_id]`, `voice[id]`, in any case."""
    parts = {part.strip().casefold() for part in _NAME_PARTS.findall(name)}
    if not parts.isdisjoint(_NAMING) or not parts.isdisjoint(_NAMING_AT_TOP):
        return True
    return "id" in parts and not parts.isdisjoint(_NAMING_BY_ID)


def form_names_object(fields: Mapping[str, str]) -> str | None:
    """The first of a form's fields that names an object, by its name or, as a model of one's own, by its value."""
    named = _named_at_top(fields)
    return named if named is not None else next((name for name in fields if field_names_object(name)), None)


def _named_at_top(document: Mapping[str, Any]) -> str | None:
    if not _MAYBE_NAMING_AT_TOP.isdisjoint(document):  # few calls have any of them
        for name in _NAMING_AT_TOP:
            if document.get(name) is not None:
                return name
        prompt = document.get("prompt")
        if isinstance(prompt, Mapping) and any(name.lower() == "id" and prompt[name] is not None for name in prompt):
            return "prompt"
    model = document.get("model")
    # A fine-tuned model belongs to one account (`ft:gpt-5:acme::id`; before 2023, `curie:ft-acme-…`).
    if isinstance(model, str) and (model[:3].lower() == "ft:" or ":ft-" in model):
        return "model"
    return None


def _named_by_item(items: list[Any]) -> tuple[str | None, bool]:
    """An item that is an id alone; and whether any of the items has an id."""
    have_ids = False
    for index, item in enumerate(items):
        if not isinstance(item, dict) or not has_id(item):
            continue
        have_ids = True
        if is_id_alone(item):
            return f"input[{index}].id", True
    return None, have_ids


def _may_be_disguised(raw: bytes) -> bool:
    """True where a letter of a name could be spelt so that the pattern does not see it."""
    if not raw.isascii() and any(first in raw and letter.search(raw) is not None for first, letter in _FOLDED):
        return True
    if b"\\" not in raw or _ESCAPE.search(raw) is None:
        return False
    return may_hide_names(raw) or any(escape.search(raw) is not None for escape in _FOLDED_ESCAPES)


def _is_as_parsed(document: Mapping[str, Any], raw: bytes) -> bool:
    """True where the text has no member that the parser threw away: most clients write as we would, and to compare
    costs a tenth of the walk."""
    try:
        return jsonio.encode(document) == raw
    except TypeError:  # nested deeper than can be written
        return False


def _walk(document: Mapping[str, Any]) -> tuple[str | None, int]:
    """The path of the first field that names an object, or None and the number of members.

    Each value is visited once; the parser has bounded their depth.
    """
    members = 0
    pending: list[tuple[Any, _Link, bool]] = [(document, None, False)]
    while pending:
        node, link, inert = pending.pop()
        children: list[tuple[Any, _Link, bool]] = []
        if isinstance(node, list):
            children = [(value, (link, i), inert) for i, value in enumerate(node) if isinstance(value, (dict, list))]
        else:
            members += len(node)
            if not inert:
                for steps in _named_in(node):
                    return _path(link, steps), members
            for name, value in node.items():
                if isinstance(value, (dict, list)):
                    children.append((value, (link, name), inert or _is_inert(node, name, link)))
        pending.extend(reversed(children))
    return None, members


def _named_in(node: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, value in node.items():
        folded = name if name in _NAMES else name.casefold()
        if folded not in _NAMES:
            if folded == "type" and isinstance(value, str) and value.casefold() == "item_reference":
                yield ("id",)
            continue
        if folded in _NAMING and _holds_id(value) and not _is_public(folded, value, node):
            yield (name,)
        # In a JSON Schema `id` is the schema of a property, and no string.
        elif folded in _NAMING_BY_ID and isinstance(value, dict) and _has_id(value):
            yield (name, "id")


def _has_id(value: Mapping[str, Any]) -> bool:
    return _holds_id(value.get("id")) or any(name.lower() == "id" and _holds_id(value[name]) for name in value)


def _holds_id(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and any(isinstance(item, str) for item in value))


def _is_public(name: str, value: object, node: Mapping[str, Any]) -> bool:
    """True for ids that mean the same in every account."""
    if name == "connector_id":
        return isinstance(value, str) and value in _PUBLIC_CONNECTORS
    if name in ("file_uri", "fileuri"):
        return isinstance(value, str) and value.startswith(_PUBLIC_VIDEOS)
    return name == "skill_id" and _sure_type(node) == "anthropic"


def _sure_type(node: Mapping[str, Any]) -> str | None:
    """The type by which everybody reads this; None where there is none, or another beside it in other letters' case."""
    kind = node.get("type")
    return kind if isinstance(kind, str) and misread_name(node, _TYPE) is None else None


def _is_inert(node: Mapping[str, Any], name: str, link: _Link) -> bool:
    """True for values that the provider stores or repeats, and never looks into."""
    return (name == "metadata" and link is None) or (name == "input" and _sure_type(node) in _TOOL_USES)


def _path(link: _Link, steps: tuple[str, ...]) -> str:
    path = ".".join(steps)
    while link is not None:
        link, step = link
        separator = "" if path.startswith("[") else "."
        path = f"[{step}]{separator}{path}" if isinstance(step, int) else f"{step}{separator}{path}"
    return path[:_PATH_CHARACTERS_MAX]
