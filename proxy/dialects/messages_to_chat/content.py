"""The blocks of a message, as the parts of a chat's.

Pure. Sources: platform.claude.com/docs/en/api/messages (content blocks);
platform.openai.com/docs/api-reference/chat/create (content parts).
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from proxy.core.errors import UnsupportedParameter
from proxy.dialects.members import array_of, base64_of, object_of, text_of, wrong

Part: TypeAlias = dict[str, Any]
Block: TypeAlias = Mapping[str, Any]

_UNNAMED_PDF: Final = "document.pdf"


def only_text(content: object) -> str | None:
    """The text of content that is nothing else, as that of most turns; None: look closer."""
    if isinstance(content, list) and len(content) == 1:
        block = content[0]
        if not isinstance(block, dict) or block.get("type") != "text":
            return None
        content = block.get("text")
    return content if isinstance(content, str) else None


def blocks_in(content: object, place: str) -> list[tuple[str, Block]]:
    """Each block of a message's content, with its place. A string is one text. Raises InvalidParameter."""
    if isinstance(content, str):
        return [(place, {"type": "text", "text": content})]
    blocks: list[tuple[str, Block]] = []
    for index, block in enumerate(array_of(content, place)):
        where = f"{place}.{index}"
        blocks.append((where, object_of(block, where)))
    return blocks


def parts_of(block: Block, place: str) -> list[Part]:
    """The parts of one block that the user, or a tool, says.

    Raises:
        InvalidParameter: it is not as documented.
        UnsupportedParameter: it is of a kind that a chat has no part for.
    """
    kind, text = block.get("type"), block.get("text")
    if kind == "text" and isinstance(text, str):  # nearly all are
        return [{"type": "text", "text": text}]
    write = _WRITERS.get(kind) if isinstance(kind, str) else None
    if write is None:
        if isinstance(kind, str) and kind:
            raise _unsayable(place, f"is a block of the type `{kind[:64]}`")
        raise wrong(f"{place}.type", "must be the type of a block.")
    return write(block, place)


def said(parts: list[Part]) -> str | list[Part]:
    """A message's content: a string where it is one text, which every server takes."""
    if len(parts) == 1 and parts[0]["type"] == "text":
        text: str = parts[0]["text"]
        return text
    return parts


def _text(block: Block, place: str) -> list[Part]:
    return [{"type": "text", "text": text_of(block.get("text"), f"{place}.text")}]


def _image(block: Block, place: str) -> list[Part]:
    where = f"{place}.source"
    source = object_of(block.get("source"), where)
    if source.get("type") == "url":
        url = text_of(source.get("url"), f"{where}.url")
    elif source.get("type") == "base64":
        media_type = text_of(source.get("media_type"), f"{where}.media_type")
        url = f"data:{media_type};base64,{base64_of(source.get('data'), f'{where}.data')}"
    else:
        raise _source_refused(source, where)
    return [{"type": "image_url", "image_url": {"url": url}}]


def _document(block: Block, place: str) -> list[Part]:
    where = f"{place}.source"
    source = object_of(block.get("source"), where)
    kind = source.get("type")
    if kind == "text":
        return [{"type": "text", "text": text_of(source.get("data"), f"{where}.data")}]
    if kind == "content":
        inner = blocks_in(source.get("content"), f"{where}.content")
        return [part for at, each in inner for part in parts_of(each, at)]
    if kind != "base64":
        raise _source_refused(source, where)
    media_type = text_of(source.get("media_type"), f"{where}.media_type")
    data = base64_of(source.get("data"), f"{where}.data")
    title = block.get("title")
    name = _UNNAMED_PDF if title is None else text_of(title, f"{place}.title")
    return [{"type": "file", "file": {"filename": name, "file_data": f"data:{media_type};base64,{data}"}}]


def _search_result(block: Block, place: str) -> list[Part]:
    title = text_of(block.get("title"), f"{place}.title")
    source = text_of(block.get("source"), f"{place}.source")
    parts: list[Part] = [{"type": "text", "text": f"{title} ({source})"}]
    for where, inner in blocks_in(block.get("content"), f"{place}.content"):
        parts += _text(inner, where)
    return parts


def _source_refused(source: Mapping[str, Any], place: str) -> Exception:
    kind = source.get("type")
    if kind in ("file", "url"):
        return _unsayable(place, "names what another provider would have to fetch")
    return wrong(f"{place}.type", "must be base64, url or, of documents, text or content.")


def _unsayable(place: str, what: str) -> UnsupportedParameter:
    return UnsupportedParameter(
        f"`{place}` {what}, which the API of this model's provider has no way to say. Send the content itself, or ask "
        "for another model.",
        param=place,
    )


_WRITERS: Final[Mapping[str, Callable[[Block, str], list[Part]]]] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "search_result": _search_result,
}
