from proxy.core.secret import Secret
from proxy.keyring import opened_cache
from proxy.keyring.dek import Dek, context_of
from proxy.keyring.dek_cache import ENTRIES_MAX, MAX_AGE_US, DekCache, Unwrapped
from proxy.keyring.opened_cache import MISS, OpenedCache
from proxy.keyring.record import OpenedProviderKey, slot_of

DEK = Dek(bytes(32))
OPENED = OpenedProviderKey(Secret("sk-1"), "https://a.example", "pk_1", 1)


def keep(cache, tenant_id="acme", dek_id="dek_1", asked_at_us=0):
    cache.keep(dek_id, context_of(tenant_id), Unwrapped(DEK, tenant_id, asked_at_us))


def find(cache, tenant_id="acme", dek_id="dek_1", now_us=0, context=None):
    return cache.find(tenant_id, dek_id, context or context_of(tenant_id), now_us)


def test_a_data_key_is_known_until_its_max_age_and_no_longer():
    cache = DekCache()
    keep(cache, asked_at_us=1_000)
    assert find(cache, now_us=1_000 + MAX_AGE_US - 1).dek is DEK
    assert find(cache, now_us=1_000 + MAX_AGE_US) is None
    assert len(cache) == 0
    assert MAX_AGE_US == 300_000_000


def test_a_data_key_is_its_tenants_its_own_and_of_its_context():
    cache = DekCache()
    keep(cache)
    assert find(cache, tenant_id="other") is None
    assert find(cache, dek_id="dek_2") is None
    assert find(cache, context={"tenant": "acme", "purpose": "another"}) is None
    assert find(cache, context={"tenant": "acme"}) is None


def test_data_keys_are_bounded_and_the_longest_unused_goes():
    cache = DekCache()
    for number in range(ENTRIES_MAX):
        keep(cache, dek_id=f"dek_{number}")
    find(cache, dek_id="dek_0")
    keep(cache, dek_id="one more")
    assert len(cache) == ENTRIES_MAX == 1_024
    assert find(cache, dek_id="dek_0") is not None
    assert find(cache, dek_id="dek_1") is None


def test_a_tenants_data_keys_are_dropped_together():
    cache = DekCache()
    keep(cache, "acme", "dek_1")
    keep(cache, "acme", "dek_2")
    keep(cache, "acme-eu", "dek_1")
    cache.drop("acme")
    assert find(cache, "acme", "dek_1") is find(cache, "acme", "dek_2") is None
    assert find(cache, "acme-eu", "dek_1") is not None
    cache.clear()
    assert len(cache) == 0


def test_what_was_opened_and_what_is_absent_are_told_from_what_is_unknown():
    cache = OpenedCache()
    cache.keep("acme", "openai", None, OPENED, epoch=1, until_us=10)
    cache.keep("acme", "openai", "zoe", None, epoch=1, until_us=10)
    assert cache.find("acme", "openai", None, 9) is OPENED
    assert cache.find("acme", "openai", "zoe", 9) is None
    for tenant_id, provider, user in (("acme", "openai", "bob"), ("acme", "other", None), ("other", "openai", None)):
        assert cache.find(tenant_id, provider, user, 9) is MISS
    assert cache.find("acme", "openai", None, 10) is MISS


def test_who_has_no_place_of_its_own_has_the_tenants(monkeypatch):
    cache = OpenedCache()
    own = OpenedProviderKey(Secret("sk-2"), "https://a.example", "pk_2", 1)
    cache.keep("acme", "openai", None, OPENED, epoch=1, until_us=100)
    slots = frozenset({slot_of("openai", None), slot_of("openai", "zoe"), slot_of("cold", None)})
    cache.keep_slots("acme", slots, epoch=1, until_us=10)
    assert cache.find("acme", "openai", "bob", 9) is OPENED
    assert cache.find("acme", "openai", "zoe", 9) is MISS  # it has one, which was not opened yet
    assert cache.find("acme", "none", "bob", 9) is cache.find("acme", "none", None, 9) is None
    assert cache.find("acme", "cold", "bob", 9) is cache.find("acme", "cold", None, 9) is MISS
    assert cache.find("acme", "openai", "bob", 10) is MISS  # it may have got one meanwhile
    assert cache.find("acme", "openai", None, 10) is OPENED
    cache.keep("acme", "openai", "zoe", own, epoch=1, until_us=100)
    assert cache.find("acme", "openai", "zoe", 9) is own
    cache.keep_slots("acme", frozenset(), epoch=2, until_us=10)
    assert cache.find("acme", "openai", "zoe", 9) is None  # another epoch: what was opened is forgotten
    assert len(cache) == 0


def test_tenants_are_bounded(monkeypatch):
    monkeypatch.setattr(opened_cache, "TENANTS_MAX", 2)
    cache = OpenedCache()
    for tenant_id in ("a", "b", "c"):
        cache.keep_slots(tenant_id, frozenset(), epoch=1, until_us=10)
    assert [cache.find(tenant_id, "openai", None, 0) for tenant_id in ("a", "b", "c")] == [MISS, None, None]


def test_another_epoch_forgets_what_was_known():
    cache = OpenedCache()
    cache.keep("acme", "openai", None, OPENED, epoch=1, until_us=10)
    cache.keep("acme", "other", None, None, epoch=2, until_us=10)
    assert cache.find("acme", "openai", None, 0) is MISS
    assert cache.find("acme", "other", None, 0) is None
    assert len(cache) == 1


def test_an_epoch_is_older_only_than_a_later_one():
    cache = OpenedCache()
    assert not cache.is_older("acme", 5)  # nothing is known, so nothing is old
    cache.keep("acme", "openai", None, OPENED, epoch=5, until_us=10)
    assert not cache.is_older("acme", 5)
    assert not cache.is_older("acme", 4)  # an answer that was overtaken
    assert cache.is_older("acme", 6)


def test_a_tenant_with_many_users_pushes_nobody_else_out(monkeypatch):
    monkeypatch.setattr(opened_cache, "TENANT_ENTRIES_MAX", 3)
    cache = OpenedCache()
    cache.keep("quiet", "openai", None, OPENED, epoch=1, until_us=10)
    for number in range(10):
        cache.keep("busy", "openai", f"user {number}", None, epoch=1, until_us=10)
    assert cache.find("quiet", "openai", None, 0) is OPENED
    assert cache.find("busy", "openai", "user 9", 0) is None
    assert len(cache) <= 4


def test_opened_keys_are_bounded(monkeypatch):
    monkeypatch.setattr(opened_cache, "ENTRIES_MAX", 3)
    cache = OpenedCache()
    for tenant_id in ("a", "b", "c", "d"):
        cache.keep(tenant_id, "openai", None, OPENED, epoch=1, until_us=10)
        cache.keep(tenant_id, "openai", None, OPENED, epoch=1, until_us=10)  # the same one counts once
    assert len(cache) == 3
    assert cache.find("a", "openai", None, 0) is MISS
    assert cache.find("d", "openai", None, 0) is OPENED
    cache.drop("d")
    assert len(cache) == 2
