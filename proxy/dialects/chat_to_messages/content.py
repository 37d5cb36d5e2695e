"""The parts of a chat message, as the blocks of Messages.

Pure. Sources: platform.openai.com/docs/api-reference/chat/create (content parts);
platform.claude.com/docs/en/api/messages (content blocks, vision, PDF support).
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from proxy.core.errors import UnsupportedParameter
from proxy.dialects.members import base64_of, object_of, text_of, wrong

Block: TypeAlias = dict[str, Any]
Part: TypeAlias = Mapping[str, Any]

_DATA_URL: Final = re.compile(r"data:([a-z0-9.+/-]+)(?:;[a-z0-9=._-]+)*;base64,", re.ASCII | re.IGNORECASE)
_PICTURES: Final = ("image/jpeg", "image/png", "image/gif", "image/webp")
_PDF: Final = "application/pdf"
_WEB: Final = ("https://", "http://")


def blocks_of(content: object, place: str) -> list[Block]:
    """The blocks of a message's content. Texts of nothing or of white space are left out: Anthropic refuses those.

    Raises:
        InvalidParameter: it is no text and no array of parts, or a part is not as documented.
        UnsupportedParameter: a part that Messages has no block for.
    """
    if isinstance(content, str):
        return [] if is_blank(content) else [{"type": "text", "text": content}]
    if content is None:
        return []
    if not isinstance(content, list):
        raise wrong(place, "must be a string or an array of parts.")
    blocks: list[Block] = []
    for index, part in enumerate(content):
        where = f"{place}.{index}"
        block = _block(object_of(part, where), where)
        if block is not None:
            blocks.append(block)
    return blocks


def texts_of(content: object, place: str) -> list[Block]:
    """As `blocks_of`, for content that is text alone: a system message's. Raises InvalidParameter."""
    blocks = blocks_of(content, place)
    if any(block["type"] != "text" for block in blocks):
        raise wrong(place, "may hold text alone.")
    return blocks


def is_blank(text: str) -> bool:
    """True for a text of nothing, or of white space alone."""
    return not text or text.isspace()


def _block(part: Part, place: str) -> Block | None:
    kind = part.get("type")
    write = _WRITERS.get(kind) if isinstance(kind, str) else None
    if write is None:
        if isinstance(kind, str) and kind in _UNSAYABLE:
            raise UnsupportedParameter(
                f"`{place}` is of the type `{kind}`, which Anthropic's models do not take. Leave it out, or ask for "
                "another model.",
                param=place,
            )
        raise wrong(f"{place}.type", f"must be one of {', '.join(_WRITERS)}.")
    block = write(part, place)
    cache_control = part.get("cache_control")
    if block is not None and cache_control is not None:
        # No field of OpenAI's: clients that know whom they call write it, as Anthropic documents it.
        block["cache_control"] = cache_control
    return block


def _text(part: Part, place: str) -> Block | None:
    text = text_of(part.get("text"), f"{place}.text")
    return None if is_blank(text) else {"type": "text", "text": text}


def _refusal(part: Part, place: str) -> Block | None:
    text = text_of(part.get("refusal"), f"{place}.refusal")
    return None if is_blank(text) else {"type": "text", "text": text}


def _picture(part: Part, place: str) -> Block:
    where = f"{place}.image_url"
    image = part.get("image_url")
    url = image if isinstance(image, str) else text_of(object_of(image, where).get("url"), f"{where}.url")
    data = _DATA_URL.match(url)
    if data is None:
        if not url.startswith(_WEB):
            raise wrong(f"{where}.url", "must be a URL of the web, or a data URL in base64.")
        return {"type": "image", "source": {"type": "url", "url": url}}
    media_type = data[1].lower()
    media_type = "image/jpeg" if media_type == "image/jpg" else media_type
    if media_type not in _PICTURES:
        raise wrong(f"{where}.url", f"must be a picture of a type that Anthropic takes: {', '.join(_PICTURES)}.")
    content = base64_of(url[data.end() :], f"{where}.url")
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": content}}


def _file(part: Part, place: str) -> Block:
    where = f"{place}.file"
    file = object_of(part.get("file"), where)
    if file.get("file_data") is None:
        raise UnsupportedParameter(
            f"`{where}` names a file that another provider keeps. Send its bytes as `file_data`.", param=where
        )
    given = text_of(file["file_data"], f"{where}.file_data")
    data = _DATA_URL.match(given)
    if data is not None and data[1].lower() != _PDF:
        raise UnsupportedParameter(
            f"`{where}.file_data` is of the type {data[1][:64]}; of files, Anthropic's models take PDF alone.",
            param=f"{where}.file_data",
        )
    content = base64_of(given if data is None else given[data.end() :], f"{where}.file_data")
    block: Block = {"type": "document", "source": {"type": "base64", "media_type": _PDF, "data": content}}
    if isinstance(file.get("filename"), str) and file["filename"]:
        block["title"] = file["filename"]
    return block


_WRITERS: Final[Mapping[str, Callable[[Part, str], Block | None]]] = {
    "text": _text,
    "image_url": _picture,
    "file": _file,
    "refusal": _refusal,
}
_UNSAYABLE: Final = frozenset({"input_audio", "audio", "video_url"})
