"""What a user's or a feature's name may look like."""

LABEL_BYTES_MAX = 128


def is_label(text: str) -> bool:
    """True for a user's or feature's name: 1 to 128 bytes of UTF-8, without control characters."""
    if not 0 < len(text) <= LABEL_BYTES_MAX:
        return False
    if text.isascii():
        return text.isprintable()
    try:
        byte_count = len(text.encode("utf-8"))
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return byte_count <= LABEL_BYTES_MAX and not any(c < " " or "\x7f" <= c <= "\x9f" for c in text)
