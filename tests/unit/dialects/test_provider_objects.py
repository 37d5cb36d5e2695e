"""What names an object that the provider holds, and what only looks like it."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects.provider_objects import body_names_object, field_names_object, path_names_object


@pytest.mark.parametrize(
    "target",
    [
        "POST chat/completions",
        "POST chat/completions/",
        "POST v1/chat/completions",
        "POST responses",
        "POST responses/input_tokens",
        "POST responses/compact",
        "POST embeddings",
        "POST completions",
        "POST moderations",
        "POST images/generations",
        "POST images/edits",
        "POST images/variations",
        "POST audio/speech",
        "POST audio/transcriptions",
        "POST audio/translations",
        "POST messages",
        "POST messages/count_tokens",
        "GET models",
        "GET models/gpt-5",
        "GET models/meta-llama/Llama-4",
        "POST rerank",
        "POST engines/text-davinci-003/completions",
        "POST models/claude-3-5-sonnet-20241022/predict",
        "POST beta/responses-next",
    ],
)
def test_paths_that_ask_for_a_new_answer_are_free(target: str) -> None:
    method, path = target.split()
    assert not path_names_object(method, tuple(path.split("/")))


@pytest.mark.parametrize(
    "target",
    [
        "GET files",
        "POST files",
        "GET Files",
        "GET files/",
        "POST FILES/",
        "POST v1/files",
        "POST uploads",
        "POST uploads/upload_1/parts",
        "POST batches",
        "POST vector_stores/vs_1/search",
        "POST conversations",
        "POST containers",
        "POST skills",
        "POST evals",
        "POST fine_tuning/jobs",
        "POST videos",
        "POST assistants",
        "POST threads/runs",
        "POST agents",
        "POST vaults",
        "POST realtime/client_secrets",
        "POST realtime/sessions",
        "GET realtime",
        "POST audio/voices",
        "POST beta/files",
        "GET responses/resp_1",
        "DELETE responses/resp_1",
        "POST responses/resp_1/cancel",
        "POST responses/anything",
        "GET chat/completions",
        "GET chat/completions/chatcmpl-1",
        "POST chat/completions/chatcmpl-1",
        "POST messages/batches",
        "GET messages/batches/msgbatch_1/results",
        "DELETE models/ft:gpt-5:acme::1",
        "POST models/ft:gpt-5:acme::1/predict",
        "GET embeddings",
        "DELETE unknown",
        "PUT unknown",
        "PATCH unknown",
        "GET unknown",
        "POST unknown/file-AbC123xyz90",
        "POST unknown/thing_68a1f00d9b2c",
        "POST unknown/file-proj_ab12cd34",
        "POST unknown/resp-abcdefghijklmnopqrstuvwx",
        "POST unknown/3f2504e0-4f89-11d3-9a0c-0305e82c3301/x",
        "OPTIONS files",
    ],
)
def test_paths_that_name_objects(target: str) -> None:
    method, path = target.split()
    assert path_names_object(method, tuple(path.split("/")))


def test_a_root_without_segments_fails_closed() -> None:
    assert path_names_object("GET", ())


def message(*content: dict[str, Any], **extra: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": list(content)}], **extra}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"prompt": {"id": "pmpt_1", "version": "2"}}, "prompt"),
        ({"model": "ft:gpt-5:acme::1"}, "model"),
        ({"model": "FT:gpt-5:acme::1"}, "model"),
        ({"model": "curie:ft-acme-2022-01-01"}, "model"),
        (message({"type": "file", "file": {"file_id": "file-1"}}), "messages[0].content[0].file.file_id"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]},
            "input[0].content[0].file_id",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]}]},
            "input[0].content[0].file_id",
        ),
        (
            message({"type": "image", "source": {"type": "file", "file_id": "f"}}),
            "messages[0].content[0].source.file_id",
        ),
        ({"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]}, "tools[0].vector_store_ids"),
        ({"tools": [{"type": "code_interpreter", "container": "cntr_1"}]}, "tools[0].container"),
        (
            {"tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file-1"]}}]},
            "tools[0].container.file_ids",
        ),
        ({"container": "container_1"}, "container"),
        ({"container": {"id": "container_1"}}, "container.id"),
        ({"container": {"skills": [{"type": "custom", "skill_id": "skill_1"}]}}, "container.skills[0].skill_id"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].id"),
        ({"input": [{"id": "msg_1"}]}, "input[0].id"),
        ({"input": [{"type": None, "id": "msg_1"}]}, "input[0].id"),
        ({"input": ["x", {"type": "image_generation_call", "id": "ig_1"}]}, "input[1].id"),
        (message({"type": ["tool_use"], "input": {"file_id": "x"}}), "messages[0].content[0].input.file_id"),
        ({"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]}, "messages[0].audio.id"),
        ({"model": "m", "input": "hi", "voice": {"id": "voice_1"}}, "voice.id"),
        ({"tools": [{"type": "mcp", "connector_id": "connector_of_acme"}]}, "tools[0].connector_id"),
        ({"extra_body": {"google": {"cached_content": "cachedContents/1"}}}, "extra_body.google.cached_content"),
        ({"images": [{"file_id": "file-1"}, {"file_id": "file-2"}]}, "images[0].file_id"),
    ],
)
def test_fields_that_name_objects(document: dict[str, Any], expected: str) -> None:
    assert body_names_object(document, orjson.dumps(document)) == expected


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"model": "gpt-5", "messages": [{"role": "user", "content": "file_id"}], "stream": True},
        {"previous_response_id": None, "conversation": None, "prompt": None, "container": None},
        {"prompt": "Once upon a time"},
        {"prompt": ["a", "b"]},
        {"prompt": {"id": None}},
        {"background": True, "store": True},
        {"model": "gpt-5-ft:x"},
        message({"type": "input_file", "file_id": None, "file_data": "data:…"}),
        {"tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": []}}]},
        {"tools": [{"type": "mcp", "connector_id": "connector_gmail", "authorization": "…"}]},
        {"container": {"skills": [{"type": "anthropic", "skill_id": "pptx", "version": "latest"}]}},
        {"input": [{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}]},
        {"input": [{"type": "message", "id": "msg_1", "role": "assistant", "content": "hi"}]},
        {"input": [{"id": "msg_1", "role": "user", "content": "hi"}]},
        {"input": [{"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{}"}]},
        {"input": [{"type": "image_generation_call", "id": "ig_1", "result": "iVBOR"}]},
        {"messages": [{"role": "assistant", "audio": None, "content": "hi"}]},
        {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}},
        {"model": "tts-1", "voice": "alloy", "input": "hi"},
        # A caller's own tool may have a parameter of any name,
        {
            "tools": [
                {"function": {"parameters": {"properties": {"file_id": {"type": "string"}}, "required": ["file_id"]}}}
            ]
        },
        {"tools": [{"input_schema": {"properties": {"container": {"type": "object", "properties": {"id": {}}}}}}]},
        # and the model may have filled it in.
        {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "t", "input": {"file_id": "x"}}]}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": '{"file_id":"x"}'}}]}]},
        {"metadata": {"file_id": "x"}},
        # A type that is no text is none that is known.
        message({"type": {}, "input": {}, "audio": None, "file_id": None}),
    ],
)
def test_fields_that_only_look_like_it(document: dict[str, Any]) -> None:
    assert body_names_object(document, orjson.dumps(document)) is None


@pytest.mark.parametrize(
    "raw",
    [
        rb'{"images":[{"file\u005fid":"file-1"}]}',
        rb'{"images":[{"\u0066ile_id":"file-1"}]}',
        rb'{"input":[{"type":"item\u005freference","id":"msg_1"}]}',
        rb'{"images":[{"file_id" : "file-1"}]}',
        b'{"images":[{"file_id"\r\n\t:"file-1"}]}',
        # A reader that takes the first of two sees what the parser threw away.
        rb'{"images":[{"file_id":"file-1","file_id":null}]}',
        rb'{"images":[{"file\u005fid":"file-1","file_id":null}]}',
        rb'{"messages":[{"content":[{"file_id":"file-1"}],"content":"hi"}]}',
        rb'{"input":[{"id":"msg_1","id":null}]}',
        # Go reads a long s as `s`, and the sign for kelvin as `k`; and names in any case.
        '{"tools":[{"vector_\u017ftore_ids":["vs_1"]}]}'.encode(),
        rb'{"tools":[{"vector_\u017ftore_ids":["vs_1"]}]}',
        rb'{"tools":[{"vector_\u017Ftore_ids":["vs_1"]}]}',
        '{"x":{"s\u212aill_id":"skill_1"}}'.encode(),
        rb'{"x":{"s\u212aill_id":"skill_1"}}',
        rb'{"x":{"s\u212Aill_id":"skill_1"}}',
        b'{"x":{"Skill_ID":"skill_1"}}',
        b'{"input":[{"Type":"item_reference","Id":"rs_1"}]}',
        b'{"input":[{"type":"message","Type":"item_reference","id":"rs_1","content":"Hi","role":"user"}]}',
        b'{"input":[{"TYPE":"Item_Reference","x":"rs_1"}]}',
        b'{"input":[{"ID":"rs_1"}]}',
        rb'{"input":[{"\u0049d":"rs_1"}]}',
        b'{"input":[{"type":"reasoning","Id":"rs_1","summary":[]}]}',
        b'{"input":[{"type":"reasoning","id":"rs_1","Encrypted_Content":"gAAA"}]}',
        b'{"input":[{"type":"reasoning","Type":"message","id":"rs_1","role":"user","content":"Hi","summary":[]}]}',
        b'{"input":[{"type":"reasoning","id":"rs_1","encrypted_content":"gAAA","Encrypted_Content":null}]}',
        # Nor is what one reader takes for a tool's input, or for everybody's skill, that for all.
        b'{"messages":[{"type":"tool_use","Type":"image","input":{"file_id":"file-1"}}]}',
        b'{"container":{"skills":[{"type":"anthropic","Type":"custom","skill_id":"skill_1"}]}}',
    ],
)
def test_a_spelling_that_hides_a_name_is_seen_through(raw: bytes) -> None:
    assert body_names_object(orjson.loads(raw), raw) is not None


@pytest.mark.parametrize(
    "raw",
    [
        '{"messages":[{"role":"user","content":"Wa\u017f\u017fer at 300 \u212a, \u201csafe\u201d"}]}'.encode(),
        rb'{"messages":[{"role":"user","content":"Wa\u017f\u017fer at 300 \u212a, \u201csafe\u201d"}]}',
        b'{"input":[{"Type":"message","Role":"user","Content":"Hi"},{"Role":"user","content":"Hi","X-Note":"y"}]}',
        b'{"input":[{"Type":"message","Id":"msg_1","Role":"user","Content":"Hi"}]}',
        b'{"tools":[{"function":{"name":"f","parameters":{"properties":{"ID":{"type":"string"},"Type":{}}}}}]}',
    ],
)
def test_odd_letters_alone_name_nothing(raw: bytes) -> None:
    assert body_names_object(orjson.loads(raw), raw) is None


def test_a_text_full_of_escapes_names_nothing() -> None:
    raw = rb'{"model":"m","messages":[{"role":"user","content":"\u0066ile_id \"file_id\": \u003cb\u003e"}]}'
    assert body_names_object(orjson.loads(raw), raw) is None


def test_the_deepest_text_that_can_be_parsed_is_walked() -> None:
    depth = 1_000
    raw = b'{"a":' * depth + b'{"file_id":"file-1"}' + b"}" * depth
    assert body_names_object(orjson.loads(raw), raw) is not None


UNNAMED = st.text(
    st.characters(codec="utf-8", exclude_characters="eEiI"), max_size=8
)  # no name of an object can be spelt so
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(UNNAMED, inner, max_size=4),
    max_leaves=16,
)


@given(JSON, st.lists(st.sampled_from(["a", "b", 0]), max_size=6))
def test_a_file_id_is_found_wherever_it_stands(around: Any, steps: list[str | int]) -> None:
    value: Any = {"file_id": "file-1"}
    for step in steps:
        value = [around, value] if step == 0 else {"around": around, str(step): value}
    document = {"model": "m", "extra": value}
    found = body_names_object(document, orjson.dumps(document))
    assert found is not None
    assert found.endswith("file_id")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("file_id", True),
        ("File_ID", True),
        ("images[0][file_id]", True),
        ("image.file_id", True),
        ("mask[ file_id ]", True),
        ("vector_\u017ftore_ids", True),
        ("voice[id]", True),
        ("container", True),
        ("previous_response_id", True),
        ("file", False),
        ("image[]", False),
        ("voice", False),
        ("audio", False),
        ("id", False),
        ("", False),
    ],
)
def test_a_forms_field_that_names_an_object(name: str, expected: bool) -> None:
    assert field_names_object(name) is expected
