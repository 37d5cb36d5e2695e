"""Holds answers to an OpenAPI description: the part of JSON Schema that ours uses."""

import re
from typing import Any

_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}
_UNDERSTOOD = {
    *("$ref", "type", "const", "enum", "pattern", "properties", "required", "additionalProperties", "items"),
    *("description", "examples", "default", "minimum", "maximum", "minItems", "maxItems"),
}


def faults(value: Any, schema: dict[str, Any], document: dict[str, Any], where: str = "$") -> list[str]:
    """What of a value is not as its schema says."""
    if "$ref" in schema:
        return faults(value, resolve(schema["$ref"], document), document, where)
    found = [f"{where}: the schema says {name}, which nothing here checks" for name in schema.keys() - _UNDERSTOOD]
    if "const" in schema and value != schema["const"]:
        found.append(f"{where}: {value!r} is not {schema['const']!r}")
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{where}: {value!r} is none of {schema['enum']}")
    if "type" in schema and not _is_of(value, schema["type"]):
        return [*found, f"{where}: {value!r} is no {schema['type']}"]
    if "pattern" in schema and not re.search(schema["pattern"], value):
        found.append(f"{where}: it does not match {schema['pattern']}")
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        found += [f"{where}.{name}: missing" for name in schema.get("required", ()) if name not in value]
        if schema.get("additionalProperties") is False:
            found += [f"{where}.{name}: not described" for name in value.keys() - properties.keys()]
        for name in value.keys() & properties.keys():
            found += faults(value[name], properties[name], document, f"{where}.{name}")
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            found += faults(item, schema["items"], document, f"{where}[{index}]")
    return found


def resolve(reference: str, document: dict[str, Any]) -> dict[str, Any]:
    """What a `$ref` within the document leads to."""
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    assert isinstance(found, dict)
    return found


def _is_of(value: Any, types: str | list[str]) -> bool:
    names = [types] if isinstance(types, str) else types
    if isinstance(value, bool):
        return "boolean" in names
    return any(isinstance(value, _TYPES[name]) for name in names)
