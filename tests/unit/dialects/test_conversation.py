"""What tells conversations apart: how they begin."""

from proxy.dialects.conversation import beginning

SYSTEM = {"role": "system", "content": "Be brief."}
HELLO, REPLY, MORE = (
    {"role": role, "content": text} for role, text in (("user", "hi"), ("assistant", "yes"), ("user", "x"))
)


def test_later_calls_of_a_conversation_begin_as_its_first_did():
    first = beginning({"messages": [SYSTEM, HELLO]})
    assert first == beginning({"messages": [SYSTEM, HELLO, REPLY, MORE], "temperature": 1})
    assert first != beginning({"messages": [SYSTEM, MORE]})


def test_the_system_prompt_counts_wherever_the_api_has_it():
    assert beginning({"system": "a", "messages": [HELLO]}) != beginning({"system": "b", "messages": [HELLO]})
    assert beginning({"instructions": "a", "input": "x"}) != beginning({"instructions": "b", "input": "x"})


def test_who_says_so_is_believed():
    assert beginning({"prompt_cache_key": "k", "messages": [HELLO]}) == beginning({"prompt_cache_key": "k"}) == b"k"


def test_what_says_nothing_is_nothing():
    assert beginning(None) == beginning({}) == beginning({"messages": []}) == b""
    deep: list[object] = []
    for _ in range(600):
        deep = [deep]
    assert beginning({"input": [deep]}) == b""
