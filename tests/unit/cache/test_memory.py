"""Kept answers in the process: bounded by bytes, apart by tenant."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.entry import CacheEntry, EntryHead
from proxy.cache.memory import Memory


def entry(body=b"x", alias="m"):
    return CacheEntry(EntryHead(alias, 0, None), b"c" * 32, (), body, "p/m", "p", None, "gateway")


def test_whose_it_is_and_what_it_is_called():
    memory = Memory(1 << 20)
    memory.keep("acme", "n", entry(b"acme's"))
    found = memory.find("acme", "n")
    assert found is not None
    assert found.body == b"acme's"
    assert memory.find("other", "n") is None
    assert memory.find("acme", "m") is None


def test_what_was_used_longest_ago_goes_first():
    size = entry().size_bytes
    memory = Memory(2 * size)
    for name in "ab":
        memory.keep("acme", name, entry())
    memory.find("acme", "a")
    memory.keep("acme", "c", entry())
    assert [name for name in "abc" if memory.find("acme", name)] == ["a", "c"]


def test_what_takes_all_the_room_is_not_kept_and_pushes_nothing_out():
    memory = Memory(2 * entry().size_bytes)
    memory.keep("acme", "a", entry())
    memory.keep("acme", "b", entry(b"x" * 10_000))
    assert memory.find("acme", "a") is not None
    assert memory.find("acme", "b") is None


def test_without_room_nothing_is_kept():
    memory = Memory(0)
    memory.keep("acme", "a", entry())
    assert (len(memory), memory.bytes) == (0, 0)


def test_a_tenant_is_dropped_whole():
    memory = Memory(1 << 20)
    for tenant in ("acme", "other"):
        for name in "ab":
            memory.keep(tenant, name, entry())
    memory.drop("acme")
    assert [memory.find(tenant, "a") is None for tenant in ("acme", "other")] == [True, False]


TENANTS = ("acme", "other")
STEPS = st.sampled_from(["keep", "keep", "keep", "forget", "find", "drop", "clear"])


@given(st.lists(st.tuples(STEPS, st.sampled_from(TENANTS), st.sampled_from("abcd"), st.integers(0, 3_000))))
def test_the_sum_of_sizes_is_right_and_within_the_bound(steps):
    memory = Memory(5_000)
    for step, tenant, name, size in steps:
        if step == "keep":
            memory.keep(tenant, name, entry(b"x" * size))
        elif step == "forget":
            memory.forget(tenant, name)
        elif step == "drop":
            memory.drop(tenant)
        elif step == "clear":
            memory.clear()
        else:
            memory.find(tenant, name)
        found = {(whose, each): memory.find(whose, each) for whose in TENANTS for each in "abcd"}
        there = [each for each in found.values() if each is not None]
        assert len(memory) == len(there)
        assert memory.bytes == sum(each.size_bytes for each in there) <= 5_000
        assert step != "drop" or not any(found[tenant, each] for each in "abcd")
        assert step != "clear" or not there
