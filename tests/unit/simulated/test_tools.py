import pytest

from proxy.simulated.refusals import Refusal
from proxy.simulated.tools import choose, offered, sample

WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
CLOCK = {"type": "function", "name": "read_clock"}  # flat, as Responses has it


@pytest.mark.parametrize(
    ("choice", "prompt", "has_result", "expected"),
    [
        (None, "How is the weather?", False, "get_weather"),
        ("auto", "Tell me the time by the clock", False, "read_clock"),
        ("auto", "Hello", False, None),
        ("auto", "read_clock, please", False, "read_clock"),
        ("required", "Hello", False, "get_weather"),
        ("required", "the clock", False, "read_clock"),
        ("none", "How is the weather?", False, None),
        ({"type": "function", "function": {"name": "read_clock"}}, "Hello", False, "read_clock"),
        ({"type": "function", "name": "read_clock"}, "Hello", False, "read_clock"),
        ({"type": "function", "name": "unheard_of"}, "Hello", False, None),
        ("required", "How is the weather?", True, None),  # else a conversation would go round for ever
    ],
)
def test_which_tool_is_called(choice, prompt, has_result, expected):
    document = {"tools": [WEATHER, CLOCK], **({} if choice is None else {"tool_choice": choice})}
    tool = choose(document, prompt, has_result)
    assert (tool.name if tool else None) == expected


def test_tools_that_are_no_functions_are_passed_over():
    assert [tool.name for tool in offered({"tools": [{"type": "web_search"}, None, WEATHER]})] == ["get_weather"]
    assert offered({"tools": "junk"}) == []


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "simulated"),
        ({"type": ["integer", "null"], "minimum": 7}, 7),
        ({"type": "boolean"}, True),
        ({"enum": ["red", "blue"]}, "red"),
        ({"const": None}, None),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, 1),
        ({"type": "array", "items": {"type": "number"}}, [1.5]),
        (
            {"$defs": {"city": {"type": "string", "default": "Paris"}}, "properties": {"at": {"$ref": "#/$defs/city"}}},
            {"at": "Paris"},
        ),
    ],
)
def test_sample(schema, value):
    assert sample(schema, "tools") == value


def test_a_schema_that_names_itself_ends():
    sample({"properties": {"next": {"$ref": "#"}}}, "tools")


@pytest.mark.parametrize("schema", [{"properties": 3}, {"anyOf": 3}, {"enum": 3}])
def test_what_is_no_schema_is_refused(schema):
    with pytest.raises(Refusal):
        sample(schema, "tools")
