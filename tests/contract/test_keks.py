"""What every KEK promises: a local one, AWS KMS as moto plays it, and as our own stricter server does.

Whatever is wrong with a wrapped data key, its context or its KEK, a caller is told the same; the reason is for the
operator alone.
"""

import asyncio
import time
from dataclasses import dataclass

import pytest

from proxy.adapters import kms as kms_adapter
from proxy.adapters.kms import KmsAway, KmsDoor
from proxy.core.errors import KeyringUnavailable, ProviderKeyUnreadable
from proxy.core.unreadable import UnreadableReason
from proxy.keyring.aws_kek import AwsKek
from proxy.keyring.dek import WrappedDek, context_of
from proxy.keyring.kek import Kek, Keks
from tests.keyrings import aws_kek, local_kek

ACME = context_of("acme")
SHIFTED = {"tenantacme": "", "purpose": ACME["purpose"]}


@dataclass
class Bench:
    name: str
    kek: Kek
    older: Kek  # another one of the same place


@pytest.fixture(scope="module")
def moto_url():
    server = pytest.importorskip("moto.server", reason="moto is not installed; `make test` does").ThreadedMotoServer(
        "127.0.0.1", 0, verbose=False
    )
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def benches(aws_environment, strict, moto_url):
    import boto3

    client = boto3.client("kms", endpoint_url=moto_url, region_name="eu-west-1")
    arns = [client.create_key()["KeyMetadata"]["Arn"] for _ in range(2)]
    made = [
        Bench("local", local_kek(), local_kek()),
        Bench("moto", aws_kek(arns[0], moto_url), aws_kek(arns[1], moto_url)),
        Bench("strict", aws_kek(strict.add_key(), strict.url), aws_kek(strict.add_key(), strict.url)),
    ]
    yield {bench.name: bench for bench in made}
    for bench in made:
        bench.kek.close()
        bench.older.close()


@pytest.fixture(params=["local", "moto", "strict"])
def bench(request, benches) -> Bench:
    return benches[request.param]


async def reason_of(asked):
    """Why it was refused; to the caller every refusal is the same."""
    with pytest.raises(ProviderKeyUnreadable) as refused:
        await asked
    alike = ProviderKeyUnreadable(UnreadableReason.CONTENT)
    assert (str(refused.value), refused.value.status, refused.value.code) == (str(alike), 500, alike.code)
    assert refused.value.__cause__ is None
    return refused.value.reason


async def test_a_data_key_comes_back_under_its_context(bench):
    dek, wrapped = await bench.kek.generate(ACME)
    assert (await bench.kek.unwrap(wrapped, ACME)).reveal() == dek.reveal()
    assert (await bench.kek.unwrap(wrapped, dict(sorted(ACME.items())))).reveal() == dek.reveal()
    assert dek.reveal() not in wrapped.ciphertext
    assert wrapped.kek_id == bench.kek.kek_id != bench.older.kek_id


async def test_data_keys_are_never_the_same(bench):
    unseen = await bench.kek.generate_wrapped(ACME)
    deks = [(await bench.kek.generate(ACME))[0], await bench.kek.unwrap(unseen, ACME)]
    assert len({dek.reveal() for dek in deks}) == 2


async def test_a_data_key_of_another_kek_can_be_taken_over(bench):
    dek, _ = await bench.older.generate(ACME)
    wrapped = await bench.kek.wrap(dek, ACME)
    assert (await bench.kek.unwrap(wrapped, ACME)).reveal() == dek.reveal()


@pytest.mark.parametrize(
    "context",
    [
        {},
        {"tenant": "acme"},
        {"purpose": ACME["purpose"]},
        {**ACME, "tenant": "other"},
        {**ACME, "purpose": "another"},
        {**ACME, "more": "x"},
        {"Tenant": "acme", "purpose": ACME["purpose"]},
        {"tenant": ACME["purpose"], "purpose": "acme"},
        SHIFTED,
    ],
    ids=["none", "no purpose", "no tenant", "other tenant", "other purpose", "one more", "case", "swapped", "shifted"],
)
async def test_under_another_context_it_does_not_come_back(bench, context):
    if bench.name == "moto" and context is SHIFTED:
        pytest.skip("moto joins a context's names and values to one text, so that a shifted boundary is the same")
    _, wrapped = await bench.kek.generate(ACME)
    assert await reason_of(bench.kek.unwrap(wrapped, context)) is UnreadableReason.DEK_REFUSED


async def test_every_changed_byte_of_a_wrapped_data_key_is_refused(bench):
    _, wrapped = await bench.kek.generate(ACME)
    changed = []
    for index in range(len(wrapped.ciphertext)):
        data = bytearray(wrapped.ciphertext)
        data[index] ^= 1 << (index % 8)
        changed.append(WrappedDek(wrapped.kek_id, bytes(data)))
    changed += [
        WrappedDek(wrapped.kek_id, wrapped.ciphertext[:-1]),
        WrappedDek(wrapped.kek_id, wrapped.ciphertext + b"x"),
    ]
    for start in range(0, len(changed), 16):
        some = changed[start : start + 16]
        reasons = await asyncio.gather(*(reason_of(bench.kek.unwrap(each, ACME)) for each in some))
        expected = {UnreadableReason.DEK_REFUSED}
        if bench.name == "moto":  # it takes the key's id out of the ciphertext and looks for that
            expected |= {UnreadableReason.KEK_MISSING, UnreadableReason.KEK_DENIED, UnreadableReason.KEK_FAULT}
        assert set(reasons) <= expected


async def test_what_another_kek_wrapped_is_refused(bench):
    _, wrapped = await bench.older.generate(ACME)
    taken = WrappedDek(bench.kek.kek_id, wrapped.ciphertext)
    reason = await reason_of(bench.kek.unwrap(taken, ACME))
    if bench.name == "moto":  # whatever its word for it: it is refused
        return
    assert reason is UnreadableReason.DEK_REFUSED


async def test_an_older_kek_unwraps_until_its_data_keys_are_rewrapped(bench):
    dek, wrapped = await bench.older.generate(ACME)
    keks = Keks([bench.kek, bench.older])
    assert (await keks.unwrap(wrapped, ACME)).reveal() == dek.reveal()
    anew = await keks.rewrap(wrapped, ACME)
    assert anew.kek_id == bench.kek.kek_id
    assert (await Keks([bench.kek]).unwrap(anew, ACME)).reveal() == dek.reveal()
    assert await keks.rewrap(anew, ACME) == anew


async def test_a_data_key_moves_from_any_kek_to_any_other(benches, strict):
    elsewhere = aws_kek(strict.add_key("us-east-1"), strict.url)
    every = [benches["local"].kek, benches["strict"].kek, elsewhere]
    for before in every:
        for after in every:
            dek, wrapped = await before.generate(ACME)
            anew = await Keks([after, before]).rewrap(wrapped, ACME)
            assert (await after.unwrap(anew, ACME)).reveal() == dek.reveal()
    elsewhere.close()


async def test_a_kek_that_is_not_configured_is_named_as_the_reason(bench):
    _, wrapped = await bench.older.generate(ACME)
    assert await reason_of(Keks([bench.kek]).unwrap(wrapped, ACME)) is UnreadableReason.KEK_UNKNOWN
    assert await reason_of(Keks([bench.kek]).rewrap(wrapped, ACME)) is UnreadableReason.KEK_UNKNOWN


async def test_under_another_context_nothing_is_rewrapped(bench):
    _, wrapped = await bench.older.generate(ACME)
    keks = Keks([bench.kek, bench.older])
    assert await reason_of(keks.rewrap(wrapped, context_of("other"))) is UnreadableReason.DEK_REFUSED


# ── what moto does not keep: the state of a key, and who may what ────────────────────────


@pytest.mark.parametrize(
    ("state", "reason"),
    [("Disabled", UnreadableReason.KEK_DISABLED), ("PendingDeletion", UnreadableReason.KEK_PENDING_DELETION)],
)
async def test_a_kek_that_is_disabled_or_pending_deletion_opens_nothing(kms, state, reason):
    arn = kms.add_key()
    kek = aws_kek(arn, kms.url)
    _, wrapped = await kek.generate(ACME)
    kms.set_state(arn, state)
    for asked in (kek.unwrap(wrapped, ACME), kek.generate(ACME), kek.generate_wrapped(ACME)):
        assert await reason_of(asked) is reason
    kms.set_state(arn, "Enabled")
    await kek.unwrap(wrapped, ACME)
    kek.close()


async def test_a_kek_that_was_deleted_is_named_as_the_reason(kms):
    arn = kms.add_key()
    kek = aws_kek(arn, kms.url)
    _, wrapped = await kek.generate(ACME)
    kms.forget(arn)
    assert await reason_of(kek.unwrap(wrapped, ACME)) is UnreadableReason.KEK_MISSING
    kek.close()


async def test_each_role_can_do_its_part_and_no_other(kms):
    kek, older = aws_kek(kms.add_key(), kms.url), aws_kek(kms.add_key(), kms.url)
    _, wrapped = await older.generate(ACME)
    kms.allow("serving", "Decrypt")
    await older.unwrap(wrapped, ACME)
    for asked in (kek.generate(ACME), kek.generate_wrapped(ACME), kek.rewrap(wrapped, ACME)):
        assert await reason_of(asked) is UnreadableReason.KEK_DENIED
    kms.allow("serving", "GenerateDataKeyWithoutPlaintext", "ReEncrypt")  # provisioning
    anew = await kek.rewrap(wrapped, ACME)
    await kek.generate_wrapped(ACME)
    assert anew is not None
    for refused in (kek.unwrap(anew, ACME), kek.generate(ACME), older.unwrap(wrapped, ACME)):
        assert await reason_of(refused) is UnreadableReason.KEK_DENIED
    kek.close()
    older.close()


# ── away ─────────────────────────────────────────────────────────────────────────────────


async def test_a_kms_that_refuses_connections_is_away(kms):
    kek = aws_kek(kms.add_key(), kms.url)
    _, wrapped = await kek.generate(ACME)
    kms.stop()
    with pytest.raises(KeyringUnavailable) as away:
        await kek.unwrap(wrapped, ACME)
    assert (away.value.status, away.value.retry_after_ms) == (503, 1_000)
    assert "127.0.0.1" not in str(away.value)
    assert away.value.for_operators.startswith(f"KMS cannot be asked: {kek.kek_id}: Could not connect to the endpoint")
    kek.close()


async def test_a_kms_that_hangs_is_given_up_after_two_attempts(kms, monkeypatch):
    monkeypatch.setattr(kms_adapter, "READ_TIMEOUT_S", 0.1)
    kek = aws_kek(kms.add_key(), kms.url)
    _, wrapped = await kek.generate(ACME)
    kms.hold()
    began_s = time.monotonic()
    with pytest.raises(KeyringUnavailable):
        await kek.unwrap(wrapped, ACME)
    assert time.monotonic() - began_s < 2.0
    assert kms.calls.count("Decrypt") == 2
    kek.close()


async def test_more_calls_than_its_threads_wait_and_too_many_are_refused(kms, monkeypatch):
    kek = aws_kek(kms.add_key(), kms.url)
    _, wrapped = await kek.generate(ACME)
    monkeypatch.setattr(kms_adapter, "CALLS_MAX", 12)
    kms.hold()
    asked = [asyncio.create_task(kek.unwrap(wrapped, ACME)) for _ in range(12)]
    await asyncio.sleep(0.05)
    with pytest.raises(KeyringUnavailable):
        await kek.unwrap(wrapped, ACME)
    kms.release()
    assert len({dek.reveal() for dek in await asyncio.gather(*asked)}) == 1
    kek.close()


async def test_without_boto3_it_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "boto3", None)
    door = KmsDoor("arn:aws:kms:eu-west-1:111122223333:key/1", None, lambda *_: None)
    with pytest.raises(KmsAway, match=r"tollway\[kms\]"):
        await door.decrypt(b"x", ACME)
    door.close()


async def test_a_door_that_was_closed_is_away(strict):
    door = KmsDoor(strict.add_key(), strict.url, lambda *_: None)
    door.close()
    door.close()
    with pytest.raises(KmsAway, match="closed"):
        await door.decrypt(b"x", ACME)


async def test_every_call_is_timed_by_its_name(strict):
    heard = []
    door = KmsDoor(strict.add_key(), strict.url, lambda name, seconds: heard.append((name, seconds >= 0)))
    kek = AwsKek("x", door)
    made = await door.generate(ACME)
    await door.decrypt(made.ciphertext, ACME)
    with pytest.raises(ProviderKeyUnreadable):
        await kek.unwrap(WrappedDek("x", b"nothing"), ACME)
    await asyncio.sleep(0)
    assert heard == [("GenerateDataKey", True), ("Decrypt", True), ("Decrypt", True)]
    assert made.plaintext.hex() not in repr(made)
    assert repr(made.plaintext) not in repr(made)
    door.close()
