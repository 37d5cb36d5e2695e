"""Pages as files: `FOLDER/TENANT/00000001.jsonl`."""

import asyncio
import errno
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from proxy.core.tenant import is_tenant_id, require_tenant_id
from proxy.ledger.sink import page_name, page_number

# What a file system says that knows no hard links.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


class FileSink:
    """A folder. Work is done in a thread: the disk may be slow, and requests go on."""

    __slots__ = ("_folder",)

    def __init__(self, folder: Path) -> None:
        """Makes nothing yet: the first page does."""
        self._folder = folder

    async def write(self, tenant_id: str, number: int, data: bytes) -> bool:
        return await asyncio.to_thread(self._write, require_tenant_id(tenant_id), page_name(number), data)

    async def read(self, tenant_id: str, number: int) -> bytes | None:
        return await asyncio.to_thread(_read, self._folder / require_tenant_id(tenant_id) / page_name(number))

    async def numbers(self, tenant_id: str) -> Sequence[int]:
        names = await asyncio.to_thread(_names, self._folder / require_tenant_id(tenant_id))
        return sorted(number for name in names if (number := page_number(name)) is not None)

    async def tenants(self) -> Sequence[str]:
        return sorted(filter(is_tenant_id, await asyncio.to_thread(_names, self._folder)))

    async def probe(self) -> None:
        await asyncio.to_thread(_probe, self._folder)

    # ── in a thread ──────────────────────────────────────────────────────────────────────

    def _write(self, tenant_id: str, name: str, data: bytes) -> bool:
        folder = self._folder / tenant_id
        if not folder.is_dir():
            _make_folder(folder)
        # Only a whole page ever has the name. A crash before that leaves a file that nobody reads.
        unfinished = folder / f".{name}.{secrets.token_hex(8)}.unfinished"
        try:
            _write_durably(unfinished, data)
            is_new = _name(unfinished, folder / name)
        finally:
            unfinished.unlink(missing_ok=True)
        # Also where the name was there: whoever gave it may have ended before this.
        _sync_folder(folder)
        return is_new


def _make_folder(folder: Path) -> None:
    """Make it and what it lies in, durably."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in made:
        _sync_folder(each.parent)


def _write_durably(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _name(unfinished: Path, final: Path) -> bool:
    """Give a whole file its name, which a rename would take from another one."""
    try:
        os.link(unfinished, final)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Without hard links the claim alone keeps others away between these two lines.
        if final.exists():
            return False
        unfinished.rename(final)
    return True


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _names(folder: Path) -> Sequence[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _probe(folder: Path) -> None:
    """Whether it, or what it would be made in, takes files."""
    there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
    if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "this user cannot write there", str(there))


def _sync_folder(folder: Path) -> None:
    """A file's name is durable once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
