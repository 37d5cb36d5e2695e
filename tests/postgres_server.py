"""A real PostgreSQL server of the tests' own, where its programs are installed."""

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

BOUND_S = 60.0


def find_postgres() -> Path | None:
    """The folder of initdb and pg_ctl: the PATH's, else Debian's newest."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "pg_ctl").exists()), None)


class PostgresServer:
    """One server on a Unix socket in a folder of its own."""

    def __init__(self) -> None:
        programs = find_postgres()
        assert programs is not None
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="tollway-postgres-", dir="/tmp"))
        # PostgreSQL refuses to run as root.
        self._user = _unprivileged() if os.geteuid() == 0 else None
        if self._user is not None:
            shutil.chown(self._folder, self._user)

    def __enter__(self) -> Self:
        self._run("initdb", "-D", "data", "-U", "tester", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
        options = f"-c listen_addresses= -c unix_socket_directories={self._folder} -c fsync=off"
        self._run("pg_ctl", "-D", "data", "-o", options, "-l", "log", "-w", "start")
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._run("pg_ctl", "-D", "data", "-m", "immediate", "stop")
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def environ(self) -> dict[str, str]:
        """What psql finds the server by."""
        return {**os.environ, "PGHOST": str(self._folder), "PGUSER": "tester", "PGDATABASE": "postgres"}

    def psql(self, *words: str) -> str:
        """Run psql; what it said."""
        typed = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *words]
        done = subprocess.run(
            typed, env=self.environ, capture_output=True, text=True, timeout=BOUND_S, check=False, cwd="/"
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def _run(self, program: str, *words: str) -> None:
        # Its output goes to a file: a server that inherits a pipe keeps it open.
        with (self._folder.parent / f"{self._folder.name}.out").open("wb") as output:
            done = subprocess.run(
                [self._programs / program, *words],
                cwd=self._folder,
                user=self._user,
                stdout=output,
                stderr=output,
                timeout=BOUND_S,
                check=False,
            )
        told = Path(output.name).read_text()
        Path(output.name).unlink()
        assert done.returncode == 0, told


def _unprivileged() -> str:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
