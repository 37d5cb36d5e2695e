"""From a document of prices to a file's text, so that a diff shows which amount changed.

Pure. A line for each model's limits and one for each tier of each of its prices, sorted: the
same facts give the same bytes. A price that changed is not overwritten: the new one is added with
the day from which it holds, so that what ran before can be priced again as it was.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from proxy.core import jsonio


def merge(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> dict[str, Any]:
    """The new document with the old one's price histories. A model that the new one lacks keeps
    its last price: it may still be called, and rows may still name it."""
    if old is None:
        return dict(new)
    models = {}
    old_models: Mapping[str, Any] = old["models"]
    for name in old_models.keys() | new["models"].keys():
        before, after = old_models.get(name), new["models"].get(name)
        if before is None or after is None:
            models[name] = after or before
            continue
        latest = {key: value for key, value in before["prices"][-1].items() if key != "valid_from"}
        if latest == after["prices"][0]:
            prices = before["prices"]
        else:
            kept = [each for each in before["prices"] if each.get("valid_from") != new["taken_on"]]
            prices = [*kept, {"valid_from": new["taken_on"], **after["prices"][0]}]
        models[name] = {**after, "prices": prices}
    merged = {**new, "models": models}
    is_same = merged == {**old, "taken_on": new["taken_on"], "source": new["source"]}
    return dict(old) if is_same else merged


def encode(document: Mapping[str, Any]) -> bytes:
    """The file's text."""
    return "".join(_lines(document)).encode()


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    yield "{\n"
    for name in ("schema", "catalog", "taken_on", "source", "license", "tools_usd"):
        yield f"{_json(name)}: {_json(document[name])},\n"
    yield '"models": {'
    separator = "\n"
    for name, model in sorted(document["models"].items()):
        limits = {key: value for key, value in model.items() if key != "prices"}
        yield f'{separator}{_json(name)}: {_json(limits)[:-1]}{", " if limits else ""}"prices": ['
        yield ",".join("".join(_version(version)) for version in model["prices"]) + "]}"
        separator = ",\n"
    yield "\n}\n}\n"


def _version(version: Mapping[str, Any]) -> Iterator[str]:
    rest = {key: value for key, value in version.items() if key != "tiers"}
    yield "\n " + _json(rest)[:-1]
    if "tiers" in version:
        yield (", " if rest else "") + '"tiers": {'
        yield ",".join(f"\n  {_json(tier)}: {_json(bands)}" for tier, bands in version["tiers"].items())
        yield "}"
    yield "}"


def _json(value: object) -> str:
    return jsonio.encode(value).decode().replace('":', '": ').replace(',"', ', "').replace("},{", "}, {")
