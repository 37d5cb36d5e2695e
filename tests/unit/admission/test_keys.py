import pytest

from proxy.admission.keys import feature_scope, model_scope, user_scope, virtual_key_scope


def test_what_callers_choose_is_hashed():
    # BLAKE2b with a digest of 16 bytes, as `b2sum -l 128` prints it.
    assert user_scope("ada") == "user:c6ef43c47f8c23627ee5b9f8f5cb406c"
    assert feature_scope("ada") == "feature:c6ef43c47f8c23627ee5b9f8f5cb406c"
    assert model_scope("ada") == "model:c6ef43c47f8c23627ee5b9f8f5cb406c"


@pytest.mark.parametrize("name", ["", "a:b", "}{", "\r\n", "x" * 10_000, "ü", "\ud800"])
def test_any_text_gives_a_name_of_one_form(name):
    for scope in (user_scope(name), feature_scope(name), model_scope(name)):
        kind, _, digest = scope.partition(":")
        assert kind in ("user", "feature", "model")
        assert len(digest) == 32
        assert set(digest) <= set("0123456789abcdef")


def test_a_virtual_keys_id_stays_readable():
    assert virtual_key_scope("vk_1") == "virtual_key:vk_1"


@pytest.mark.parametrize("virtual_key_id", ["", "a:b", "a}b", "a b"])
def test_an_id_that_could_reach_elsewhere_is_refused(virtual_key_id):
    with pytest.raises(ValueError, match=r".+"):
        virtual_key_scope(virtual_key_id)
