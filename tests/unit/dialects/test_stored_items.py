"""Which items are handed back with what they consist of, and which are an id alone."""

import orjson
import pytest

from proxy.dialects.provider_objects import body_names_object
from proxy.dialects.stored_items import is_id_alone

SEALED = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
SAID = {"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]}
ASKED = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{}"}


@pytest.mark.parametrize(
    "item",
    [
        SEALED,
        SAID,
        ASKED,
        {"id": "msg_1", "role": "user", "content": "Hi"},
        {**ASKED, "arguments": ""},
        {"type": "function_call_output", "id": "fco_1", "call_id": "call_1", "output": ""},
        {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_1", "name": "f", "input": ""},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm"}]},
        {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAA"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "x"}},
        {"type": "computer_call", "id": "cu_1", "call_id": "call_1", "actions": [{"type": "screenshot"}]},
        {"type": "image_generation_call", "id": "ig_1", "result": "iVBOR"},
        {"type": "local_shell_call_output", "id": "call_1", "output": "{}"},
        {"type": "mcp_approval_response", "id": "r_1", "approval_request_id": "mcpr_1", "approve": False},
        {"type": "of_tomorrow", "id": "x_1", "status": "completed", "said": "Hi"},
        # Without an id there is nothing to look up.
        {"type": "reasoning", "summary": []},
        {"type": "web_search_call", "id": None, "status": "completed"},
        {},
    ],
)
def test_an_item_with_its_content_is_the_content(item):
    assert not is_id_alone(item)
    body = {"input": ["Hi", item], "store": False}
    assert body_names_object(body, orjson.dumps(body)) is None
    assert body_names_object(body, orjson.dumps(body, option=orjson.OPT_INDENT_2)) is None  # as nobody here would write


@pytest.mark.parametrize(
    "item",
    [
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": None},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "", "content": []},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "It thought."}]},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "file_search_call", "id": "fs_1", "status": "completed", "queries": ["x"], "results": None},
        {"type": "code_interpreter_call", "id": "ci_1", "status": "completed", "code": None, "outputs": []},
        {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": ""},
        {"type": "image_generation_call", "id": "ig_1", "result": None, "revised_prompt": "x"},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f"},
        {"type": "message", "id": "msg_1", "role": "assistant"},
        {"type": "message", "id": "msg_1", "role": "assistant", "content": []},
        {"type": "message", "id": "msg_1", "role": "assistant", "content": [{}]},
        {"id": "msg_1", "role": "assistant", "content": None},
        {"id": "msg_1", "content": "Hi"},
        {"type": "of_tomorrow", "id": "x_1", "status": "completed", "said": None},
        {"type": [], "id": "x_1"},
    ],
)
def test_an_item_without_it_is_an_id_alone(item):
    assert is_id_alone(item)
    body = {"input": ["Hi", item], "store": False}
    assert body_names_object(body, orjson.dumps(body)) == "input[1].id"


@pytest.mark.parametrize(
    "item",
    [
        b'{"type":"reasoning","id":"rs_1","encrypted_content":null,"encrypted_content":"gAAA"}',
        b'{"type":"reasoning","type":"message","id":"rs_1","role":"assistant","content":"Hi"}',
        b'{"type":"web_search_call","id":"ws_1","action":{},"action":{"type":"search"}}',
        b'{"type":"message","id":"msg_1","id":null,"role":"assistant"}',
    ],
)
def test_an_item_that_another_reader_may_see_without_it_is_refused(item):
    raw = b'{"model":"m","input":[' + item + b'],"store":false}'
    assert body_names_object(orjson.loads(raw), raw) is not None
