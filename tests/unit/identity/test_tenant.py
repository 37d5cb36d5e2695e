"""A tenant's record, and what becomes of it."""

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.consent import Consent
from proxy.identity.tenant import TenantRecord, decode, encode, settings_of
from proxy.settings.model import NoCeiling, OnUnsupported, StreamUsage, TenantSettings

INSTANTS = st.integers(0, 2**53 - 1)


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
    }
    assert said.keys() == names - {"id"}
    record = TenantRecord("acme", 1, 2, **said)
    assert settings_of(record) == TenantSettings("acme", **said)


def test_a_record_without_anything_is_the_default():
    assert settings_of(TenantRecord("acme", 1, 2)) == TenantSettings("acme")


def test_a_record_of_a_later_release_is_read():
    stored = b'{"id":"a","created_at_ms":1,"updated_at_ms":2,"no_ceiling":"haggle","stream_usage":"x","region":"eu"}'
    assert decode(stored) == TenantRecord("a", 1, 2)


@pytest.mark.parametrize("tenant_id", ["", "a b", "{a}"])
def test_a_text_that_is_no_tenant_id_is_not_stored(tenant_id):
    with pytest.raises(ValueError, match="tenant id"):
        encode(TenantRecord(tenant_id, 1, 2))
