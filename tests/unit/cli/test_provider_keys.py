"""`tollway provider-keys`, `keyring` and `tenants shred` as they are typed, beside a real SQLite store and KEK file."""

import io
import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from proxy.__main__ import main
from proxy.core.errors import ProviderKeyUnreadable
from proxy.core.unreadable import UnreadableReason
from proxy.keyring.local_kek import LocalKek
from tests.cli_result import begin_state
from tests.keyrings import OTHER_SECRET, SECRET

TEXT, OTHER = SECRET.reveal(), OTHER_SECRET.reveal()
PROVIDERS = """
[providers.openai]
base_url = "https://api.openai.com/v1"
[providers.simulated]
transport = "simulated"
[tenants.in-file]
"""
KEYRING = '[keyring]\nkek = "file:kek"\n'
PUT = ("provider-keys", "put", "--tenant", "acme", "--provider", "openai")
ROTATE = ("provider-keys", "rotate", *PUT[2:])
DELETE = ("provider-keys", "delete", *PUT[2:])


class Typed(io.StringIO):
    """Standard input at a terminal."""

    def isatty(self) -> bool:
        return True


class Bench:
    """One configuration in one folder, and commands run against it. Everything that was ever shown is in `shown`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "t.toml"
        begin_state(folder / "state")
        self.shown = ""
        self.write(PROVIDERS + KEYRING)

    def write(self, text: str) -> None:
        self.path.write_text(f'[state]\nfolder = "{self.folder / "state"}"\n' + text)

    def run(self, *words: str, typed: str | io.StringIO = "", code: int = 0) -> tuple[str, str]:
        output, errors = io.StringIO(), io.StringIO()
        source = io.StringIO(typed) if isinstance(typed, str) else typed
        found = main([*words, "--config", str(self.path)], environ={}, output=output, errors=errors, typed=source)
        self.shown += output.getvalue() + errors.getvalue()
        assert found == code, errors.getvalue()
        return output.getvalue(), errors.getvalue()

    def answer(self, *words: str, typed: str = ""):
        return json.loads(self.run(*words, "--json", typed=typed)[0])

    def stored(self, tenant_id: str = "acme"):
        return self.answer("provider-keys", "list", "--tenant", tenant_id)["provider_keys"]


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_a_key_is_put_listed_rotated_and_deleted_and_never_shown(bench, caplog, capfd):
    assert bench.run(*PUT, typed=TEXT + "\n")[0].endswith(
        "version 1, fingerprint {}, ends in ghij. It is sent to https://api.openai.com alone.\n".format(
            bench.stored()[0]["fingerprint"]
        )
    )
    second = bench.answer(*PUT, "--user", "ada", typed=OTHER + "\r\n")
    assert (second["user"], second["last_four"], second["version"]) == ("ada", "3210", 1)
    rotated = bench.answer(*ROTATE, typed=OTHER)
    assert (rotated["version"], rotated["fingerprint"]) == (2, second["fingerprint"])
    assert bench.run(*DELETE, "--user", "ada")[0] == f"Deleted {second['id']} of acme for openai.\n"
    heading, *rows = bench.run("provider-keys", "list", "--tenant", "acme")[0].splitlines()
    assert heading.split()[:4] == ["ID", "PROVIDER", "USER", "STATE"]
    assert [row.split()[1:5] for row in rows] == [["openai", "all", "active", "2"], ["openai", "ada", "deleted", "1"]]
    assert [past["state"] for past in bench.stored()[0]["past"]] == ["retired"]
    changes = bench.answer("audit", "list", "--tenant", "acme")["changes"]
    assert [change["action"] for change in changes] == [
        *["provider_key.put"] * 2,
        "provider_key.rotate",
        "provider_key.delete",
    ]
    assert changes[1]["details"]["user"] == "ada"
    bench.run("ledger", "export")
    assert bench.answer("ledger", "verify")["ok"]
    said = capfd.readouterr()
    told = bench.shown + caplog.text + said.out + said.err
    written = b"".join(file.read_bytes() for file in bench.folder.rglob("*") if file.is_file())
    for secret in (TEXT, OTHER):
        assert secret[:20] not in told
        assert secret[:20].encode() not in written
    assert b"fingerprint" in written  # what is looked through is what was written


@pytest.mark.parametrize(
    ("words", "typed", "code", "said"),
    [
        (PUT, "", 2, "no provider key was given"),
        (PUT, "\n", 2, "no provider key was given"),
        (PUT, f"{TEXT}\n{TEXT}\n", 2, "more than one line"),
        (PUT, "short\n", 2, "8 to 8192 visible ASCII"),
        (PUT, "x" * 9_000, 2, "8 to 8192 visible ASCII"),
        ((*PUT[:-1], "opemai"), TEXT, 2, 'Did you mean "openai"?'),
        ((*PUT[:-1], "simulated"), TEXT, 2, "asks for no key"),
        ((*PUT, "--user", ""), TEXT, 2, "user is empty"),
        (ROTATE, TEXT, 1, "none is stored there. `tollway provider-keys list --tenant acme`"),
        (DELETE, "", 1, "none is stored there."),
        (("keyring", "rotate-kek"), "", 0, ""),
        (("tenants", "shred", "acme"), "", 2, "Say --yes if you mean it."),
        (("tenants", "shred", "acmf", "--yes"), "", 1, "nobody has heard of a tenant acmf"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(bench, words, typed, code, said):
    _, errors = bench.run(*words, typed=typed, code=code)
    assert said in errors
    assert TEXT not in errors
    assert bench.stored() == []
    assert bench.answer("audit", "list")["changes"] == []


def test_without_a_kek_the_configuration_is_named(bench):
    bench.write(PROVIDERS)
    for words in (PUT, ("keyring", "status"), ("keyring", "prepare", "--tenant", "acme")):
        assert "Write [keyring] kek first." in bench.run(*words, typed=TEXT, code=1)[1]
    assert not (bench.folder / "state" / "kek").exists()


@pytest.mark.parametrize("words", [PUT, ROTATE], ids=["put", "rotate"])
@pytest.mark.parametrize("typed", [(TEXT,), ("--provider-key", TEXT), (f"--secret={TEXT}",)])
def test_a_secret_is_no_argument_and_is_not_shown_again(bench, capsys, words, typed):
    with pytest.raises(SystemExit) as caught:
        bench.run(*words, *typed)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "The key is typed when asked for, or read from standard input: … < FILE." in said
    assert TEXT not in said


def test_other_commands_say_which_argument_they_do_not_know(bench, capsys):
    with pytest.raises(SystemExit):
        bench.run(*DELETE, "--now")
    assert capsys.readouterr().err.endswith("tollway: error: unrecognized arguments: --now\n")


def test_on_a_terminal_the_secret_is_typed_unseen(bench):
    """A real one: what it echoes is what is looked at."""
    leader, follower = pty.openpty()
    words = [sys.executable, "-m", "proxy", *PUT, "--config", str(bench.path)]
    root = Path(__file__).resolve().parents[3]
    process = subprocess.Popen(
        words, cwd=root, stdin=follower, stdout=follower, stderr=follower, start_new_session=True
    )
    os.close(follower)
    shown, is_typed, deadline_s = b"", False, time.monotonic() + 20
    while time.monotonic() < deadline_s:
        try:
            shown += os.read(leader, 4_096)
        except OSError:  # it has ended
            break
        if b"(not shown): " in shown and not is_typed:
            is_typed = True
            os.write(leader, TEXT.encode() + b"\n")
    assert process.wait(20) == 0, shown
    os.close(leader)
    assert b"acme's key for openai (not shown): " in shown
    assert b"Stored pk_" in shown
    assert TEXT[:20].encode() not in shown


def test_a_tenant_is_shredded_once_its_id_was_typed_again(bench):
    bench.run(*PUT, typed=TEXT)
    virtual_key = bench.answer("keys", "issue", "--tenant", "acme")["id"]
    assert (
        "that is not acme. Nothing was done." in bench.run("tenants", "shred", "acme", typed=Typed("acm\n"), code=1)[1]
    )
    assert len(bench.stored()) == 1
    output, errors = bench.run("tenants", "shred", "acme", typed=Typed("acme\n"))
    assert output.startswith("Shredded acme (")
    assert "1 of its virtual keys revoked" in output
    assert "This cannot be undone." in errors
    assert bench.stored() == []
    assert [one["state"] for one in bench.answer("keys", "list")["virtual_keys"]] == ["revoked"]
    for words in (PUT, ("keys", "issue", "--tenant", "acme"), ("tenants", "put", "acme")):
        assert "The tenant acme was shredded: its id is used up." in bench.run(*words, typed=TEXT, code=1)[1]
    again = bench.answer("tenants", "shred", "acme", "--yes")
    assert (again["id"], again["revoked"]) == ("acme", [])
    assert virtual_key.startswith("vk_")


def test_a_shredded_tenant_is_listed_as_one(bench):
    for tenant_id in ("acme", "globex"):
        bench.run("tenants", "put", tenant_id)
    bench.run("tenants", "shred", "acme", "--yes")
    bench.run("tenants", "shred", "in-file", "--yes")
    listed = {one["id"]: one["shredded_at"] for one in bench.answer("tenants", "list")["tenants"]}
    assert listed["globex"] is None
    rows = {line.split()[0]: line for line in bench.run("tenants", "list")[0].splitlines()}
    assert f"store, shredded {listed['acme']} " in rows["acme"]
    assert rows["in-file"].endswith(f"file, shredded {listed['in-file']}")
    assert "shredded" not in rows["globex"]


def test_a_tenant_with_provider_keys_is_deleted_by_force_alone(bench):
    bench.run("tenants", "put", "acme")
    stored = bench.answer(*PUT, typed=TEXT)["id"]
    assert "has provider keys that are stored: 1." in bench.run("tenants", "delete", "acme", code=1)[1]
    assert bench.answer("tenants", "delete", "acme", "--force") == {"id": "acme", "revoked": [], "wiped": [stored]}
    assert [one["state"] for one in bench.stored()] == ["deleted"]


def test_keks_and_data_keys_are_rotated(bench):
    bench.run(*PUT, typed=TEXT)
    assert bench.answer("keyring", "prepare", "--tenant", "globex") == {"tenant": "globex", "is_new": True}
    assert "already" in bench.run("keyring", "prepare", "--tenant", "globex")[0]
    bench.write(PROVIDERS + '[keyring]\nkek = ["file:new", "file:kek"]\n')
    assert [kek["data_keys"] for kek in bench.answer("keyring", "status")["keks"]] == [0, 2]
    assert bench.answer("keyring", "rotate-kek") == {"tenants": 2, "rotated": 2, "changed": 2, "failed": []}
    assert [kek["data_keys"] for kek in bench.answer("keyring", "status")["keks"]] == [2, 0]
    bench.write(PROVIDERS + '[keyring]\nkek = "file:new"\n')
    assert bench.answer("keyring", "rotate-dek", "--tenant", "acme")["changed"] == 1
    assert bench.answer("keyring", "rotate-dek", "--due")["rotated"] == 0
    assert bench.answer(*ROTATE, typed=OTHER)["version"] == 2  # it opens still
    bench.write(PROVIDERS + KEYRING)
    assert "kek_unknown" in bench.run(*ROTATE, typed=TEXT, code=1)[1]
    _, errors = bench.run("keyring", "rotate-dek", "--tenant", "acme", code=1)
    assert "of 1 tenants something cannot be read, and stays as it was: acme." in errors
    assert "MISSING" in bench.run("keyring", "status")[0]


def test_check_connect_tries_each_kek(bench, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "nobodys")
    bench.write('[keyring]\nkek = ["file:kek", "file:older"]\n')
    output, _ = bench.run("check", "--connect")
    assert "  KEK file:kek: reached\n" in output
    assert "  KEK file:older: reached\n" in output
    arn = "arn:aws:kms:eu-west-1:111122223333:key/1234"
    bench.write(f'[keyring]\nkek = "aws-kms:{arn}"\nkms_endpoint_url = "http://127.0.0.1:1"\n')
    said = f"  KEK aws-kms:{arn}: FAILED: KMS cannot be asked: {arn}: Could not connect to the endpoint URL: "
    assert said + '"http://127.0.0.1:1/"\n' in bench.run("check", "--connect", code=1)[0]


def test_without_boto3_the_failure_says_what_to_install(bench, monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    arn = "arn:aws:kms:eu-west-1:111122223333:key/1234"
    bench.write(PROVIDERS + f'[keyring]\nkek = "aws-kms:{arn}"\n')
    why = "KMS cannot be asked: AWS KMS needs boto3: pip install 'tollway[kms]', or -e '.[kms]' in a checkout\n"
    assert bench.run(*PUT, typed=TEXT, code=1)[1] == f"tollway: {why}"
    assert f"  KEK aws-kms:{arn}: FAILED: {why}" in bench.run("check", "--connect", code=1)[0]


def test_what_the_kms_refuses_is_told_in_its_own_words(bench, monkeypatch):
    refused = ProviderKeyUnreadable(UnreadableReason.KEK_DENIED, cause="not authorized to perform kms:Decrypt")

    async def refuse(*_args):
        raise refused

    bench.run(*PUT, typed=TEXT)
    monkeypatch.setattr(LocalKek, "unwrap", refuse)
    words = "kek_denied (not authorized to perform kms:Decrypt). docs/provider-keys.md says what to do"
    assert bench.run(*ROTATE, typed=OTHER, code=1)[1] == f"tollway: the tenant's data key cannot be used: {words}.\n"
    assert f"FAILED: it refuses: {words}\n" in bench.run("check", "--connect", code=1)[0]
