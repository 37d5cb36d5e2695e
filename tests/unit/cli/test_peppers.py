"""`tollway keys peppers` and `keys retire-pepper` as they are typed, beside a real SQLite store."""

import asyncio
import base64
import io
import json
import sqlite3
from contextlib import closing

import pytest

from proxy import app
from proxy.__main__ import main
from proxy.core.clock import Clock
from proxy.identity.virtual_key import PepperedDigest, digest, pepper_fingerprint
from proxy.settings.model import Settings, StateSettings
from tests.virtual_keys import by_digest

OLD, NEW = b"o" * 32, b"n" * 32
OLD_NAME, NEW_NAME = pepper_fingerprint(OLD), pepper_fingerprint(NEW)


class Bench:
    """One configuration in one folder, and commands run against it."""

    def __init__(self, folder):
        self.folder = folder
        self.path = folder / "t.toml"
        self.write(OLD)

    def write(self, *peppers: bytes) -> None:
        """Put these peppers in the configuration, newest first."""
        names = [f"env:PEPPER_{number}" for number in range(len(peppers))]
        self.environ = {f"PEPPER_{number}": base64.b64encode(pepper).decode() for number, pepper in enumerate(peppers)}
        state = f'[state]\nfolder = "{self.folder / "state"}"\n'
        self.path.write_text(state + f"[auth]\npeppers = {json.dumps(names)}\n")

    def run(self, *words, code=0):
        output, errors = io.StringIO(), io.StringIO()
        found = main(
            [*words, "--config", str(self.path)], environ=self.environ, output=output, errors=errors, composition=app
        )
        assert found == code, errors.getvalue()
        return output.getvalue(), errors.getvalue()

    def answer(self, *words):
        return json.loads(self.run(*words, "--json")[0])

    def issue(self) -> tuple[str, str]:
        """A token, and its key's id."""
        issued = self.answer("keys", "issue", "--tenant", "acme")
        return issued["virtual_key"], issued["id"]

    def store(self, doing):
        """What `doing` makes of the store of virtual keys."""

        async def do():
            async with app.open_stores(Settings(state=StateSettings(folder=self.folder / "state"))) as stores:
                return await doing(stores.virtual_keys)

        return asyncio.run(do())

    def use(self, token: str, virtual_key_id: str) -> None:
        """What a gateway does once a key was used."""
        known, newest = (PepperedDigest(digest(token, pepper), pepper_fingerprint(pepper)) for pepper in (OLD, NEW))
        self.store(lambda virtual_keys: virtual_keys.add_digest(virtual_key_id, known, newest))

    def works(self, token: str, *peppers: bytes) -> bool:
        found = self.store(lambda virtual_keys: by_digest(virtual_keys, [digest(token, each) for each in peppers]))
        return found is not None and found.revoked_at_ms is None

    def forget_peppers(self) -> None:
        """As an earlier release had left it."""
        with closing(sqlite3.connect(self.folder / "state" / "tollway.db")) as connection, connection:
            connection.execute("UPDATE virtual_key_digests SET pepper = ''")


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def counts(bench) -> dict[str | None, tuple[bool, int, int]]:
    listed = bench.answer("keys", "peppers")["peppers"]
    return {each["fingerprint"]: (each["is_newest"], each["virtual_keys"], each["only_here"]) for each in listed}


def test_peppers_are_shown_with_what_they_alone_open_and_never_themselves(bench):
    (_, left), (used, used_id) = bench.issue(), bench.issue()
    bench.write(NEW, OLD)
    bench.issue()
    bench.use(used, used_id)
    assert counts(bench) == {NEW_NAME: (True, 2, 1), OLD_NAME: (False, 2, 1)}
    assert [each["id"] for each in bench.answer("keys", "peppers")["only_under_older"]] == [left]
    output, errors = bench.run("keys", "peppers")
    assert left in output
    assert used_id not in output
    for secret in bench.environ.values():
        assert secret not in output + errors


def test_what_an_older_pepper_alone_opens_is_revoked_audited_and_the_rest_goes_on_without_it(bench):
    (left, left_id), (used, used_id) = bench.issue(), bench.issue()
    bench.write(NEW, OLD)
    bench.use(used, used_id)
    output, errors = bench.run("keys", "retire-pepper", OLD_NAME, "--yes")
    assert left_id in output
    assert f"Retired {OLD_NAME}: 1 virtual keys revoked, 1 go on without it." in output
    assert "take it out" in errors
    assert bench.works(used, NEW)
    assert not bench.works(used, OLD)
    assert not bench.works(left, NEW, OLD)
    changes = bench.answer("audit", "list", "--tenant", "acme")["changes"]
    assert [c["virtual_key_id"] for c in changes if c["action"] == "virtual_key.revoke"] == [left_id]
    states = {each["id"]: each["state"] for each in bench.answer("keys", "list")["virtual_keys"]}
    assert states == {left_id: "revoked", used_id: "active"}
    again = bench.answer("keys", "retire-pepper", OLD_NAME, "--yes")
    assert (again["revoked"], again["forgotten"]) == (0, 0)
    bench.write(NEW)
    assert counts(bench) == {NEW_NAME: (True, 1, 1)}
    assert bench.works(used, NEW)


def test_one_that_was_taken_out_too_early_is_shown_and_can_be_retired(bench):
    _, left_id = bench.issue()
    bench.write(NEW)
    assert counts(bench) == {NEW_NAME: (True, 0, 0), OLD_NAME: (False, 1, 1)}
    assert "taken out" in bench.run("keys", "peppers")[0]
    assert bench.answer("keys", "retire-pepper", OLD_NAME, "--yes")["revoked"] == 1
    assert [each["state"] for each in bench.answer("keys", "list")["virtual_keys"]] == ["revoked"]
    assert left_id


def test_nothing_is_done_unless_it_is_confirmed(bench, monkeypatch):
    token, _ = bench.issue()
    bench.write(NEW, OLD)
    _, errors = bench.run("keys", "retire-pepper", OLD_NAME, code=1)
    assert "1 virtual keys are opened by no other pepper" in errors
    assert "--yes" in errors
    for typed in ("", "y", NEW_NAME):
        monkeypatch.setattr("sys.stdin", Typed(typed))
        assert "nothing was changed" in bench.run("keys", "retire-pepper", OLD_NAME, code=1)[1]
        assert bench.works(token, OLD)
    monkeypatch.setattr("sys.stdin", Typed(OLD_NAME + "\n"))
    bench.run("keys", "retire-pepper", OLD_NAME)
    assert not bench.works(token, OLD)


class Typed(io.StringIO):
    """A terminal at which this is typed."""

    def isatty(self) -> bool:
        return True


def test_the_pepper_that_was_made_at_the_first_start_is_rotated_once_it_is_written_down(bench):
    state = f'[state]\nfolder = "{bench.folder / "state"}"\n'
    bench.path.write_text(state)
    _, virtual_key_id = bench.issue()
    made = base64.b64decode((bench.folder / "state" / "pepper").read_text())
    peppers = f'["env:PEPPER_0", "file:{bench.folder / "state" / "pepper"}"]'
    bench.path.write_text(f"{state}[auth]\npeppers = {peppers}\n")
    assert counts(bench) == {OLD_NAME: (True, 0, 0), pepper_fingerprint(made): (False, 1, 1)}
    listed = bench.answer("keys", "peppers")["only_under_older"]
    assert [each["id"] for each in listed] == [virtual_key_id]


def test_the_newest_an_unknown_and_a_malformed_one_are_refused(bench):
    token, _ = bench.issue()
    assert "is the newest pepper" in bench.run("keys", "retire-pepper", OLD_NAME, "--yes", code=1)[1]
    assert "no pepper has the fingerprint" in bench.run("keys", "retire-pepper", "0" * 12, "--yes", code=1)[1]
    with pytest.raises(SystemExit):
        bench.run("keys", "retire-pepper", "old")
    assert bench.works(token, OLD)


def test_keys_whose_pepper_nobody_has_noted_hold_it_up_until_they_are_used_or_meant(bench):
    (used, used_id), (left, _) = bench.issue(), bench.issue()
    bench.write(NEW, OLD)
    bench.forget_peppers()
    assert counts(bench) == {NEW_NAME: (True, 0, 0), OLD_NAME: (False, 0, 0), None: (False, 2, 2)}
    assert "of 2 virtual keys" in bench.run("keys", "retire-pepper", OLD_NAME, "--yes", code=1)[1]
    bench.use(used, used_id)
    assert counts(bench) == {NEW_NAME: (True, 1, 0), OLD_NAME: (False, 1, 0), None: (False, 1, 1)}
    answer = bench.answer("keys", "retire-pepper", OLD_NAME, "--yes", "--unknown-too")
    assert (answer["revoked"], answer["forgotten"]) == (1, 1)
    assert bench.works(used, NEW)
    assert not bench.works(left, NEW, OLD)


def test_a_key_that_is_used_between_the_survey_and_its_turn_is_spared(bench):
    from proxy.administration.desk import open_desk
    from proxy.administration.peppers import PepperAdministration

    (used, used_id), (left, _) = bench.issue(), bench.issue()
    settings = Settings(state=StateSettings(folder=bench.folder / "state"))

    async def retire():
        async with app.open_stores(settings) as stores:
            desk = open_desk(settings, stores, lambda: NEW, Clock(), "cli:test")
            peppers = PepperAdministration(stores.virtual_keys, desk.virtual_keys, [NEW, OLD], Clock())
            survey = await peppers.survey(lambda _: None)
            known, newest = (PepperedDigest(digest(used, each), pepper_fingerprint(each)) for each in (OLD, NEW))
            await stores.virtual_keys.add_digest(used_id, known, newest)
            return await peppers.retire(OLD_NAME, survey, lambda _: None, unnoted_too=False)

    assert asyncio.run(retire()) == (1, 1)
    assert bench.works(used, NEW)
    assert not bench.works(left, OLD)
