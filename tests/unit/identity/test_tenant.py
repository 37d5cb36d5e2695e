"""A tenant's record, and what becomes of it."""

import json
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.consent import Consent
from proxy.identity.tenant import TenantRecord, decode, encode, settings_of
from proxy.settings.caching import CacheMode, CachePolicy, CacheShare
from proxy.settings.model import NoCeiling, OnUnsupported, StreamUsage, TenantSettings

INSTANTS = st.integers(0, 2**53 - 1)
POLICIES = st.builds(
    CachePolicy,
    mode=st.sampled_from(CacheMode),
    ttl_s=st.integers(1, 2_592_000),
    share=st.sampled_from(CacheShare),
    events_per_s=st.none() | st.integers(1, 10_000),
)
KEPT: dict[str, Any] = {"mode": "all", "ttl_s": 60, "share": "user", "events_per_s": 50}


@given(
    st.builds(
        TenantRecord,
        id=st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
        created_at_ms=INSTANTS,
        updated_at_ms=INSTANTS,
        plan=st.text("abc.-", min_size=1),
        timezone=st.just("Europe/Berlin"),
        no_ceiling=st.sampled_from(NoCeiling),
        stream_usage=st.sampled_from(StreamUsage),
        on_unsupported=st.sampled_from(OnUnsupported),
        fallback=st.sampled_from(Consent),
        residency=st.none() | st.frozensets(st.sampled_from(["eu", "us", "us-east-1"])),
        zero_retention=st.booleans(),
        allow_unmetered=st.booleans(),
        count_own_key=st.booleans(),
        cache=st.none() | POLICIES,
    )
)
def test_a_record_survives_being_stored(record):
    assert decode(encode(record)) == record


def test_a_record_holds_what_the_file_could_say_less_the_webhook():
    names = {field.name for field in fields(TenantSettings)} - {"soft_cap_webhook"}
    assert {field.name for field in fields(TenantRecord)} == names | {"created_at_ms", "updated_at_ms"}
    said: dict[str, Any] = {
        "plan": "pro",
        "timezone": "Asia/Tokyo",
        "no_ceiling": NoCeiling.INSERT,
        "stream_usage": StreamUsage.LEAVE,
        "on_unsupported": OnUnsupported.DROP,
        "fallback": Consent.LOWER,
        "residency": frozenset({"eu"}),
        "zero_retention": True,
        "allow_unmetered": True,
        "count_own_key": True,
        "cache": CachePolicy(CacheMode.ALL),
    }
    assert said.keys() == names - {"id"}
    record = TenantRecord("acme", 1, 2, **said)
    assert settings_of(record) == TenantSettings("acme", **said)


def test_a_record_without_anything_is_the_default():
    assert settings_of(TenantRecord("acme", 1, 2)) == TenantSettings("acme")


def test_a_record_of_a_later_release_is_read():
    stored = b'{"id":"a","created_at_ms":1,"updated_at_ms":2,"no_ceiling":"haggle","stream_usage":"x","region":"eu"}'
    assert decode(stored) == TenantRecord("a", 1, 2)


def stored_with(cache):
    return json.dumps({"id": "a", "created_at_ms": 1, "updated_at_ms": 2, "cache": cache}).encode()


def test_what_is_stored_of_its_cache():
    policy = CachePolicy(CacheMode.ALL, 60, CacheShare.USER, 50)
    assert json.loads(encode(TenantRecord("a", 1, 2, cache=policy)))["cache"] == KEPT
    assert json.loads(encode(TenantRecord("a", 1, 2)))["cache"] is None
    assert decode(stored_with({**KEPT, "of_a_later_release": 1})).cache == policy
    assert decode(stored_with({name: KEPT[name] for name in ("mode", "ttl_s", "share")})).cache == CachePolicy(
        CacheMode.ALL, 60, CacheShare.USER
    )


@pytest.mark.parametrize(
    "cache",
    [
        *("all", 1, [], {}),
        *({**KEPT, "mode": mode} for mode in ("most", None, 1, ["all"])),
        *({**KEPT, "share": share} for share in ("planet", None, 1)),
        *({**KEPT, "ttl_s": ttl_s} for ttl_s in (0, 2_592_001, 1.5, "60", True, None)),
        *({**KEPT, "events_per_s": pace} for pace in (0, 10_001, 0.5, "50", True)),
        *({name: value for name, value in KEPT.items() if name != left_out} for left_out in ("mode", "ttl_s", "share")),
    ],
)
def test_a_cache_that_only_a_later_release_knows_is_off(cache):
    assert decode(stored_with(cache)).cache == CachePolicy(CacheMode.OFF)


def test_where_nothing_is_said_nothing_is():
    assert decode(stored_with(None)).cache is None


def test_off_is_off_whatever_stands_beside_it():
    assert decode(stored_with({"mode": "off", "ttl_s": -1, "share": "planet"})).cache == CachePolicy(CacheMode.OFF)


@pytest.mark.parametrize("tenant_id", ["", "a b", "{a}"])
def test_a_text_that_is_no_tenant_id_is_not_stored(tenant_id):
    with pytest.raises(ValueError, match="tenant id"):
        encode(TenantRecord(tenant_id, 1, 2))
