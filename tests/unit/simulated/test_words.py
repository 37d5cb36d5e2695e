import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.simulated import words
from proxy.simulated.refusals import Refusal


@given(st.text())
def test_pieces_put_together_are_the_text(text):
    assert "".join(words.pieces(text)) == text


@given(st.text())
def test_a_text_never_has_more_tokens_than_bytes(text):
    assert 0 <= words.count_tokens(text) <= len(text.encode())


@given(st.text(), st.integers(1, 50))
def test_a_cut_text_fits_its_ceiling(text, tokens_max):
    shown, was_cut = words.cut(text, tokens_max)
    assert words.count_tokens(shown) <= tokens_max
    assert text.startswith(shown)
    assert was_cut == (shown != text)


@pytest.mark.parametrize("chunks", [1, 2, 18, 10_000])
def test_as_many_pieces_as_asked_for(chunks):
    assert len(words.pieces(words.say("Hello there", chunks))) == chunks


def test_the_answer_quotes_the_prompt():
    assert '"two words"' in words.say("  two \n words ", None)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("plain", "plain"),
        ([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}, {"type": "text", "text": "b"}], "a b"),
        (None, ""),
        (7, ""),
    ],
)
def test_text_of(content, text):
    assert words.text_of(content) == text


@pytest.mark.parametrize("value", [0, -1, "5", 1.5, True])
def test_what_is_no_positive_number_is_refused(value):
    with pytest.raises(Refusal) as refusal:
        words.positive({"n": value}, "n")
    assert refusal.value.status == 400


def test_the_first_given_field_holds():
    assert words.positive({"a": None, "b": 3, "c": 4}, "a", "b", "c") == 3
    assert words.positive({}, "a") is None
