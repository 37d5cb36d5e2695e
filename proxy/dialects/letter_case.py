"""Names that some readers of JSON take for another: in capitals, or with a long s.

Pure. Go's encoding/json, and what is written like it, takes `MODEL` for `model`, and the last one if there are two. Who
decided by the other one would have decided on something else than is served.
"""

from collections.abc import Mapping, Set


def misread_name(node: Mapping[str, object], names: Set[str]) -> str | None:
    """The first of the members that is none of these names, and that a reader which knows no case takes for one."""
    joined = "".join(node)
    if joined.islower() and joined.isascii():
        return None  # as in most objects
    return next((name for name in node if name not in names and name.casefold() in names), None)
