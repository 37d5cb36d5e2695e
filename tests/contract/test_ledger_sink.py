"""What every sink of the ledger promises: files, and S3 over HTTP."""

import asyncio
import os
import stat

import pytest

from proxy.adapters.s3 import S3Door
from proxy.adapters.sqlite import SqliteDoor
from proxy.core.clock import Clock
from proxy.core.errors import StateUnavailable
from proxy.ledger.chain import Chain
from proxy.ledger.embedded import EmbeddedLedgerStore
from proxy.ledger.entry import SealedRow
from proxy.ledger.exporter import Exporter, ExportPace
from proxy.ledger.reader import LedgerReader
from proxy.ledger.sink import page_name, page_number
from proxy.ledger.sink_file import FileSink
from proxy.ledger.sink_s3 import S3Sink
from tests.ledger_crash import FaultyStore, Observed


@pytest.fixture(scope="module")
def s3_url():
    server = pytest.importorskip("moto.server", reason="moto is not installed; `make test` does").ThreadedMotoServer(
        "127.0.0.1", 0, verbose=False
    )
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_environment(s3_url, monkeypatch):
    """What boto3 finds credentials, region and endpoint in."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")


@pytest.fixture
def bucket(s3_environment, request):
    import boto3

    name = f"b{abs(hash(request.node.nodeid)):x}"
    location = {"LocationConstraint": "eu-west-1"}
    boto3.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration=location)
    return name


@pytest.fixture(params=["file", "s3", "s3 without a prefix"])
def sink(request, tmp_path):
    if request.param == "file":
        return FileSink(tmp_path / "deep" / "ledger")
    prefix = "ledgers/prod/" if request.param == "s3" else ""
    return S3Sink(S3Door(request.getfixturevalue("bucket")), prefix)


async def test_an_empty_sink_has_nothing(sink):
    assert list(await sink.tenants()) == []
    assert list(await sink.numbers("acme")) == []
    assert await sink.read("acme", 1) is None


async def test_what_was_written_is_read_byte_for_byte(sink):
    data = bytes(range(256)) * 5_000  # 1.2 MB
    assert await sink.write("acme", 1, data)
    assert await sink.read("acme", 1) == data
    assert await sink.read("acme", 2) is None
    assert await sink.read("other", 1) is None


async def test_a_page_is_never_replaced(sink):
    assert await sink.write("acme", 1, b"first\n")
    assert not await sink.write("acme", 1, b"second\n")
    assert not await sink.write("acme", 1, b"first\n")
    assert await sink.read("acme", 1) == b"first\n"


async def test_of_many_writers_at_once_one_wins_whole(sink):
    contents = [b"%d\n" % number * 10_000 for number in range(8)]
    won = await asyncio.gather(*(sink.write("acme", 1, data) for data in contents))
    assert won.count(True) == 1
    assert await sink.read("acme", 1) == contents[won.index(True)]
    assert list(await sink.numbers("acme")) == [1]


async def test_pages_and_tenants_are_listed_in_order(sink):
    for tenant_id, number in [("b", 2), ("b", 10), ("a_-Z", 1), ("b", 1), ("b", 100_000_000), ("b", 99_999_999)]:
        await sink.write(tenant_id, number, b"x\n")
    assert list(await sink.tenants()) == ["a_-Z", "b"]
    assert list(await sink.numbers("b")) == [1, 2, 10, 99_999_999, 100_000_000]
    assert list(await sink.numbers("a_-Z")) == [1]


async def test_an_exporter_drains_a_store_into_it_and_one_that_ended_half_way_is_made_good(sink, tmp_path):
    async with SqliteDoor(tmp_path / "tollway.db") as door:
        store = EmbeddedLedgerStore(door)
        await store.append([SealedRow("acme", f"r{number}", b"%d" % number) for number in range(5)])
        pace = ExportPace(seal_rows_max=2, lease_ms=1)
        deaf = FaultyStore(store, lambda: StateUnavailable("away", retry_after_ms=1))
        deaf.fail_at(5, before=True)  # backlog, claim, read, claim again, and then the cursor that does not move
        turn = await Exporter(deaf, sink, Observed(), Clock(), "a", pace).run_once()
        assert turn.is_away
        assert list(await sink.numbers("acme")) == [1]
        await asyncio.sleep(0.005)
        assert (await Exporter(store, sink, Observed(), Clock(), "b", pace).run_once()).failures == ()
        reader = LedgerReader(store, sink)
        found = [row async for batch in reader.batches("acme", Chain("acme")) for row in batch]
        assert found == [b"0", b"1", b"2", b"3", b"4"]
        assert list(await sink.numbers("acme")) == [1, 2, 3]


@pytest.mark.parametrize("tenant_id", ["", "..", "a/b", "a" * 65])
async def test_a_text_that_is_no_tenant_id_reaches_no_file(sink, tenant_id):
    for asked in (sink.write(tenant_id, 1, b""), sink.read(tenant_id, 1), sink.numbers(tenant_id)):
        with pytest.raises(ValueError, match="tenant id"):
            await asked


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("00000001.jsonl", 1),
        ("99999999.jsonl", 99_999_999),
        ("123456789.jsonl", 123_456_789),
        ("00000000.jsonl", None),
        ("1.jsonl", None),
        ("000000001.jsonl", None),  # another name for page 1
        (".00000001.jsonl.ab.unfinished", None),
        ("00000001.jsonl.gz", None),
    ],
)
def test_page_number(name, number):
    assert page_number(name) == number
    assert number is None or page_name(number) == name


# ── files ────────────────────────────────────────────────────────────────────────────────


async def test_files_are_for_their_owner_alone_and_stand_where_the_document_says(tmp_path):
    await FileSink(tmp_path / "ledger").write("acme", 7, b"x\n")
    file = tmp_path / "ledger" / "acme" / "00000007.jsonl"
    assert file.read_bytes() == b"x\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert os.listdir(file.parent) == ["00000007.jsonl"]


async def test_other_files_are_passed_over(tmp_path):
    folder = tmp_path / "acme"
    folder.mkdir()
    for name in (".00000001.jsonl.abc.unfinished", "notes.txt", "00000002.jsonl~"):
        (folder / name).write_text("x")
    (tmp_path / "not a tenant").mkdir()
    sink = FileSink(tmp_path)
    assert list(await sink.numbers("acme")) == []
    assert list(await sink.tenants()) == ["acme"]
    assert await sink.write("acme", 1, b"x\n")


async def test_a_page_is_synced_before_it_has_its_name_and_the_name_after(tmp_path, monkeypatch):
    """What a power cut leaves is either no page or a whole one."""
    sink, events = FileSink(tmp_path), []
    await sink.write("acme", 1, b"x\n")
    real_fsync, real_link = os.fsync, os.link

    def fsync(descriptor):
        is_folder = os.readlink(f"/proc/self/fd/{descriptor}") == str(tmp_path / "acme")
        events.append("folder" if is_folder else "file")
        real_fsync(descriptor)

    def link(*paths):
        events.append("name")
        real_link(*paths)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    assert await sink.write("acme", 2, b"x\n")
    assert events == ["file", "name", "folder"]
    events.clear()
    assert not await sink.write("acme", 2, b"y\n")
    assert events == ["file", "name", "folder"]


async def test_new_folders_are_synced_up_to_the_first_that_was_there(tmp_path, monkeypatch):
    synced = []
    real_fsync = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    await FileSink(tmp_path / "state" / "ledger").write("acme", 1, b"x\n")
    state = tmp_path / "state"
    assert set(synced) == {str(folder) for folder in (tmp_path, state, state / "ledger", state / "ledger" / "acme")}


async def test_a_file_system_without_hard_links_will_do(tmp_path, monkeypatch):
    def no_links(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    sink = FileSink(tmp_path)
    assert await sink.write("acme", 1, b"x\n")
    assert not await sink.write("acme", 1, b"y\n")
    assert await sink.read("acme", 1) == b"x\n"
    assert os.listdir(tmp_path / "acme") == ["00000001.jsonl"]


async def test_a_folder_that_cannot_be_made_is_an_os_error_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        await FileSink(tmp_path / "file").write("acme", 1, b"x\n")


async def test_a_full_disk_leaves_no_half_page(tmp_path, monkeypatch):
    sink = FileSink(tmp_path)

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        (tmp_path / "acme").mkdir()
        with pytest.raises(OSError, match="No space"):
            await sink.write("acme", 1, b"x\n")
    assert os.listdir(tmp_path / "acme") == []
    assert await sink.write("acme", 1, b"x\n")


async def test_a_probe_of_files_asks_what_is_there_and_makes_nothing(tmp_path, monkeypatch):
    sink = FileSink(tmp_path / "deep" / "ledger")
    await sink.probe()
    assert os.listdir(tmp_path) == []
    with monkeypatch.context() as patched:  # whoever runs the tests may be allowed everything
        patched.setattr(os, "access", lambda path, _: path != tmp_path)
        with pytest.raises(PermissionError, match=f"this user cannot write there: '{tmp_path}'"):
            await sink.probe()
    (tmp_path / "deep").write_text("in the way")
    with pytest.raises(NotADirectoryError, match="deep"):
        await sink.probe()


# ── S3 ───────────────────────────────────────────────────────────────────────────────────


async def test_objects_stand_where_the_document_says(bucket):
    import boto3

    await S3Sink(S3Door(bucket), "/ledgers/").write("acme", 7, b"x\n")
    assert boto3.client("s3").get_object(Bucket=bucket, Key="ledgers/acme/00000007.jsonl")["Body"].read() == b"x\n"


async def test_a_listing_goes_beyond_one_answer(bucket, monkeypatch):
    """S3 lists 1,000 names an answer; here 3."""
    door = S3Door(bucket)
    sink = S3Sink(door, "p")
    for number in range(1, 9):
        await sink.write("acme", number, b"")
    client, _ = door._connected()
    real_list = client.list_objects_v2
    monkeypatch.setattr(client, "list_objects_v2", lambda **parameters: real_list(**parameters, MaxKeys=3))
    assert list(await sink.numbers("acme")) == list(range(1, 9))


async def test_a_bucket_that_is_not_there_is_an_os_error_that_names_it(s3_environment):
    sink = S3Sink(S3Door("nowhere-to-be-found"), "")
    for asked in (sink.write("acme", 1, b""), sink.numbers("acme"), sink.tenants(), sink.probe()):
        with pytest.raises(OSError, match="nowhere-to-be-found"):
            await asked


async def test_a_probe_of_a_bucket_that_is_there_is_content(bucket):
    await S3Sink(S3Door(bucket), "p").probe()


async def test_a_store_that_does_not_answer_is_an_os_error(s3_environment, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    with pytest.raises(OSError, match="bucket"):
        await S3Sink(S3Door("bucket"), "").read("acme", 1)


async def test_a_store_without_conditional_writes_is_asked_first(bucket, monkeypatch):
    from botocore.exceptions import ClientError

    door = S3Door(bucket)
    client, _ = door._connected()
    real_put = client.put_object

    def put_object(**parameters):
        if "IfNoneMatch" in parameters:
            raise ClientError({"Error": {"Code": "NotImplemented"}}, "PutObject")
        return real_put(**parameters)

    monkeypatch.setattr(client, "put_object", put_object)
    assert door.put_new("name", b"first")
    assert not door.put_new("name", b"second")
    assert door.get("name") == b"first"


async def test_without_boto3_it_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(OSError, match=r"tollway\[s3\]"):
        await S3Sink(S3Door("bucket"), "").read("acme", 1)
