from proxy.ledger.entry import Entry, decode, encode

ENTRY = Entry(
    run_id="01J",
    started_at="2026-11-20T12:00:00.000Z",
    adjusts=None,
    tenant="acme",
    user="Zoë",
    feature=None,
    virtual_key_id="vk_1",
    prompt_id=None,
    prompt_version=None,
    config_version="000000000000",
    endpoint="/chat/completions",
    requested_model="gpt-5",
    rule=None,
    split=None,
    served_model="gpt-5",
    provider="openai",
    deployment="openai/gpt-5",
    attempts=1,
    given_up=None,
    fallback_reason=None,
    translated=None,
    dropped_fields=None,
    stream=False,
    status=200,
    error_source=None,
    input_tokens=5,
    cached_input_tokens=0,
    cache_write_tokens=0,
    output_tokens=9_007_199_254_740_991,
    reasoning_tokens=None,
    usage_source="exact",
    price_version="2026-11-20",
    held_nusd=2_000,
    cost_nusd=1_250,
    charged_nusd=1_250,
    absorbed_nusd=0,
    saved_nusd=None,
    key_source="gateway",
    cache=None,
    latency_ms=12.5,
    first_byte_ms=None,
    overhead_us=80,
    kind="run",
)


def test_a_row_knows_whose_it_is_and_its_bytes_hold_every_field():
    sealed = encode(ENTRY)
    assert (sealed.tenant_id, sealed.run_id) == ("acme", "01J")
    assert decode(sealed.data) == ENTRY
    assert decode(sealed.data)["kind"] == "run"


def test_a_row_is_one_line():
    assert b"\n" not in encode({**ENTRY, "user": "a\nb"}).data
