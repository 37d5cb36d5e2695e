import base64
import math
import struct

import pytest
from openai import BadRequestError

MODEL = "simulated-embedding"


async def test_vectors_have_length_one_and_tell_texts_apart(openai_client):
    answer = await openai_client.embeddings.create(model=MODEL, input=["one", "two", "one"])
    one, two, again = (item.embedding for item in answer.data)
    assert [item.index for item in answer.data] == [0, 1, 2]
    assert len(one) == 256
    assert math.isclose(math.hypot(*one), 1, abs_tol=1e-5)
    assert one == again
    assert one != two
    assert answer.usage.prompt_tokens == 3  # a token for each word of three letters


async def test_base64_holds_the_same_floats(openai_client):
    plain = await openai_client.embeddings.create(model=MODEL, input="one", encoding_format="float")
    packed = await openai_client.embeddings.create(model=MODEL, input="one", encoding_format="base64")
    raw = base64.b64decode(packed.data[0].embedding)
    assert list(struct.unpack("<256f", raw)) == plain.data[0].embedding


async def test_as_many_dimensions_as_asked_for(openai_client):
    answer = await openai_client.embeddings.create(model=MODEL, input="one", dimensions=1024)
    assert len(answer.data[0].embedding) == 1024


@pytest.mark.parametrize(("given", "count"), [([1, 2, 3], 1), ([[1, 2], [3]], 2)])
async def test_lists_of_tokens(openai_client, given, count):
    answer = await openai_client.embeddings.create(model=MODEL, input=given)
    assert len(answer.data) == count
    assert answer.usage.prompt_tokens == 3


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": [None]}, "input"),
        ({"input": ["x"] * 2049}, "input"),
        ({"dimensions": 3073}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
    ],
)
async def test_what_cannot_be_answered_is_refused_by_name(openai_client, fields, param):
    with pytest.raises(BadRequestError) as refused:
        await openai_client.embeddings.create(**{"model": MODEL, "input": "one", **fields})
    assert refused.value.param == param
