"""What we ask of the kernel: sockets to listen on, and two facts of a connection.

Listening sockets are bound before anything else starts: a port in use is one clear line.
"""

import logging
import os
import socket
import stat
import struct
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path
from termios import TIOCOUTQ
from typing import Final

from proxy.settings.model import Address, ServerSettings

DATA_SETTING: Final = "[server] bind"
ADMIN_SETTING: Final = "[server] admin_bind"
_STALE_PROBE_S: Final = 1.0
_LINGER_OFF: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, for 0 s
_PRIVATE_UMASK: Final = 0o177  # a socket file that only its owner may open

_logger = logging.getLogger("proxy.edge")


class BindFailed(OSError):
    """An address cannot be listened on. The message is for the operator."""


def bind(address: Address, setting: str) -> socket.socket:
    """Bind, but not yet listen.

    Args:
        address: where; port 0 takes any free one.
        setting: the setting that names it, for the message.

    Raises:
        BindFailed: with the address, the cause and what to do.
    """
    try:
        if address.unix_path is not None:
            return _bind_unix(Path(address.unix_path))
        return _bind_tcp(address.host, address.port)
    except OSError as error:
        raise _refused(address, setting, error) from None


def listen(bound: socket.socket, setting: str, backlog: int) -> None:
    """Let callers connect. Two processes that started at once may both have bound it: the first one has it.

    Raises:
        BindFailed: as `bind`.
    """
    try:
        bound.listen(backlog)
    except OSError as error:
        raise _refused(address_of(bound), setting, error) from None


@contextmanager
def both_bound(settings: ServerSettings) -> Iterator[tuple[socket.socket, socket.socket]]:
    """The data port's and the admin port's, or neither.

    Raises:
        BindFailed: with the address, the cause and what to do.
    """
    data_socket = bind(settings.bind, DATA_SETTING)
    try:
        admin_socket = bind(settings.admin_bind, ADMIN_SETTING)
        try:
            yield data_socket, admin_socket
        finally:
            admin_socket.close()
            remove_unix_file(settings.admin_bind)
    finally:
        data_socket.close()
        remove_unix_file(settings.bind)


def url_of(bound: socket.socket) -> str:
    """Where a socket really listens, as people type it."""
    address = address_of(bound)
    return str(address) if address.unix_path is not None else f"http://{address}"


def address_of(bound: socket.socket) -> Address:
    """Where a socket really listens: the port that 0 became."""
    name = bound.getsockname()
    if isinstance(name, str):
        return Address(unix_path=name)
    return Address(str(name[0]), int(name[1]))


def remove_unix_file(address: Address) -> None:
    """Take a closed socket's file away, unless another process listens there by now."""
    if address.unix_path is not None:
        try:
            _remove_stale(Path(address.unix_path))
        except OSError as error:
            _logger.info("%s stays: %s", address, error.strerror)


def unsent_bytes(connected: socket.socket) -> int:
    """What the kernel still holds of a connection's output: not yet acknowledged by the other side."""
    held_bytes = array("i", [0])
    try:
        ioctl(connected.fileno(), TIOCOUTQ, held_bytes)
    except (OSError, ValueError):  # a kind of socket that cannot say it, or closed meanwhile
        return 0
    return held_bytes[0]


def reset_on_close(connected: socket.socket) -> None:
    """Let the connection's end be a reset: the other side must not take it for a clean one."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)


def _refused(address: Address, setting: str, error: OSError) -> BindFailed:
    reason = error.strerror or str(error)
    return BindFailed(f"cannot listen on {address}: {reason}. Free it, or set {setting} to another address.")


def _bind_tcp(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, name = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(name)
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


def _bind_unix(path: Path) -> socket.socket:
    _remove_stale(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(_PRIVATE_UMASK)  # before the file exists: there is no moment in which others could connect
    try:
        bound.bind(str(path))
    except OSError:
        bound.close()
        raise
    finally:
        os.umask(umask)
    bound.setblocking(False)
    return bound


def _remove_stale(path: Path) -> None:
    """A process that was killed leaves its socket's file behind. Nobody answers there."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(0, "there is a file that is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_STALE_PROBE_S)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(0, "another process listens there")
