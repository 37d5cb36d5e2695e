"""What a text in the configuration may say: addresses, URLs, networks, names, keys.

Every parser takes the text, gives the value, and raises Mismatch where it is none.
"""

import base64
import binascii
import re
from functools import lru_cache
from ipaddress import ip_address, ip_network
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo, available_timezones

from proxy.core.capabilities import CAPABILITIES
from proxy.core.label import LABEL_BYTES_MAX, is_label
from proxy.core.secret import Secret
from proxy.core.tenant import is_tenant_id
from proxy.settings.caching import NO_CACHE_STORE
from proxy.settings.model import Address, Network
from proxy.settings.suggest import did_you_mean

PEPPER_BYTES = 32
ADMIN_TOKEN_CHARS_MIN = 32
# A socket path is at most 107 bytes and a NUL on Linux (unix(7)); macOS has 103.
_UNIX_PATH_BYTES_MAX = 103
_PROVIDER_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MODEL_NAME = re.compile(r"[!-~]{1,256}")  # it stands in a response header
_API_VERSION = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:-preview)?|v1|preview|latest", re.ASCII)
_PROVIDER_KEY = re.compile(r"[!-~]{1,8192}")  # it stands in a request header
_REGION = re.compile(r"[a-z0-9-]{1,32}")
_ADMIN_TOKEN = re.compile(r"[!-~]{32,512}")  # likewise
_URL = re.compile(r"[!-~]{1,2048}")
_URL_HOST = re.compile(r"[a-z0-9]([a-z0-9._-]{0,251}[a-z0-9])?")
_ZONE_PART = "[A-Z][A-Za-z0-9_+-]{0,31}"  # other files beside the zones' begin in lower case
_TIME_ZONE = re.compile(f"{_ZONE_PART}(/{_ZONE_PART}){{0,2}}")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9!_.*'()/=-]{0,512}")
_DATABASE_PATH = re.compile(r"(/\d{0,5})?")


class Mismatch(Exception):
    """The text is not what was expected. `found` replaces the text where that must not be shown."""

    def __init__(self, expected: str, *, found: str | None = None, suggestion: str | None = None) -> None:
        super().__init__(expected)
        self.expected = expected
        self.found = found
        self.suggestion = suggestion


def parse_path(text: str) -> str:
    """A path of the file system."""
    if not text or "\0" in text:
        raise Mismatch("a path")
    return text


def parse_tenant_id(text: str) -> str:
    """1 to 64 letters, digits, `_` and `-`: it is part of every state key, row and header."""
    if not is_tenant_id(text):
        raise Mismatch("a tenant id: 1 to 64 letters, digits, `_` and `-`")
    return text


def parse_provider_name(text: str) -> str:
    """1 to 64 letters, digits, `_`, `.` and `-`: a header and a metric's label show it."""
    if _PROVIDER_NAME.fullmatch(text) is None:
        raise Mismatch("a provider's name: 1 to 64 letters, digits, `_`, `.` and `-`")
    return text


def parse_model_name(text: str) -> str:
    """1 to 256 visible ASCII characters."""
    if _MODEL_NAME.fullmatch(text) is None:
        raise Mismatch("a model's name: 1 to 256 visible ASCII characters, no space")
    return text


def parse_api_version(text: str) -> str:
    """What Azure's query tells: a date, perhaps `-preview`; or `preview`, `latest`, of the v1 API."""
    if _API_VERSION.fullmatch(text) is None:
        raise Mismatch("the date of an API version, such as 2024-10-21, or preview")
    return text


def parse_region(text: str) -> str:
    """Where a provider works, as the operator calls it: 1 to 32 of a-z, 0-9 and `-`."""
    if _REGION.fullmatch(text) is None:
        raise Mismatch("a region such as eu or us-east-1: 1 to 32 of a-z, 0-9 and `-`")
    return text


def parse_plan_name(text: str) -> str:
    """1 to 64 letters, digits, `_`, `.` and `-`."""
    if _PROVIDER_NAME.fullmatch(text) is None:
        raise Mismatch("a plan's name: 1 to 64 letters, digits, `_`, `.` and `-`")
    return text


def parse_feature_name(text: str) -> str:
    """What `x-tollway-feature` may say: 1 to 128 bytes of UTF-8, without control characters."""
    if not is_label(text):
        raise Mismatch(f"a feature's name: 1 to {LABEL_BYTES_MAX} bytes of UTF-8, without control characters")
    return text


def parse_capability(text: str) -> str:
    """What a model can do besides answering text with text."""
    if text not in CAPABILITIES:
        raise Mismatch(f"one of {', '.join(CAPABILITIES)}", suggestion=did_you_mean(text, CAPABILITIES))
    return text


def is_time_zone(text: str) -> bool:
    """True for the name of a zone that this machine's copy of the IANA database has."""
    if _TIME_ZONE.fullmatch(text) is None:
        return False
    try:
        ZoneInfo(text)
    except (KeyError, ValueError, OSError):  # OSError: a folder of zones, such as America
        return False
    return True


def parse_time_zone(text: str) -> str:
    """`UTC`, `Europe/Berlin`: a zone of the IANA database."""
    if not is_time_zone(text):
        raise Mismatch("a time zone of the IANA database, such as UTC or Europe/Berlin", suggestion=_zone_meant(text))
    return text


@lru_cache(maxsize=64)
def _zone_meant(text: str) -> str | None:
    """It takes some 20 ms to look for it, and one slip may stand beside ten thousand tenants."""
    return did_you_mean(text, available_timezones())


def parse_webhook_url(text: str) -> Secret:
    """An https URL, or http to loopback. Its path and query often are a secret: never shown."""
    expected = "an https URL (or http to loopback)"
    parts = _split(text, expected, schemes=("https", "http"))
    if "@" in parts.netloc or "#" in text:
        raise Mismatch(expected + ", without a user name, password or fragment", found="a URL with one (not shown)")
    if not is_https_or_loopback(text):
        raise Mismatch(expected, found="http to another machine")
    return Secret(text)


def parse_sink(text: str) -> str:
    """`folder:PATH`, `s3://bucket/prefix` or `none`."""
    expected = "folder:PATH, s3://bucket/prefix or none"
    if text == "none":
        return text
    if text.startswith("folder:"):
        folder = text.removeprefix("folder:")
        if not folder or "\0" in folder or folder.startswith("//"):
            raise Mismatch(expected, suggestion="Write the path right after `folder:`.")
        return text
    bucket, _, prefix = text.removeprefix("s3://").partition("/")
    if not text.startswith("s3://") or _BUCKET.fullmatch(bucket) is None or _PREFIX.fullmatch(prefix) is None:
        raise Mismatch(expected)
    return text


def parse_address(text: str) -> Address:
    """`127.0.0.1:8080`, `[::1]:8080`, `localhost:8080` or `unix:/run/tollway.sock`.

    Host names are not taken: what they resolve to decides whether the address is local, and
    so whether callers may be believed.
    """
    if text.startswith("unix:"):
        unix_path = text.removeprefix("unix:")
        if not unix_path or "\0" in unix_path or len(unix_path.encode(errors="replace")) > _UNIX_PATH_BYTES_MAX:
            raise Mismatch(f"the path of a Unix socket after `unix:`, at most {_UNIX_PATH_BYTES_MAX} bytes")
        return Address(unix_path=unix_path)
    expected = "an address such as 127.0.0.1:8080, [::1]:8080, localhost:8080 or unix:/run/tollway.sock"
    host, colon, port_text = text.rpartition(":")
    if not colon:
        raise Mismatch(expected, suggestion="Add the port.")
    if not _is_port(port_text):
        raise Mismatch(expected, suggestion="A port is a number from 0 to 65535; 0 takes any free one.")
    if host == "localhost":
        return Address(host, int(port_text))
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        ip = ip_address(host[1:-1] if bracketed else host)
    except ValueError:
        raise Mismatch(expected) from None
    if bracketed != (ip.version == 6):
        raise Mismatch(expected, suggestion="An IPv6 address stands in brackets, an IPv4 address without.")
    return Address(str(ip), int(port_text))


def parse_network(text: str) -> Network:
    """A network in CIDR notation, IPv4 or IPv6; a lone address is a network of one."""
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        suggestion = f'Did you mean "{ip_network(text, strict=False)}"?'
    except ValueError:
        suggestion = None
    raise Mismatch("a network such as 10.0.0.0/8 or fd00::/8, without host bits", suggestion=suggestion)


def parse_base_url(text: str) -> str:
    """An http or https URL to which an endpoint's path is added, without its trailing slash.

    Whether http is allowed is `is_https_or_loopback`'s to say.
    """
    expected = "a URL such as https://api.example.com/v1"
    parts = _split(text, expected, schemes=("https", "http"))
    if "@" in parts.netloc:
        raise Mismatch(expected + ", without a user name or password", found="a URL with one (not shown)")
    if "?" in text or "#" in text:
        raise Mismatch(expected + ", without a query or fragment", found="a URL with one (not shown)")
    segments = parts.path.rstrip("/").split("/")[1:]
    if "\\" in text or any(segment in ("", ".", "..") for segment in segments):
        raise Mismatch(expected + ", whose path has no empty or dot segments", found="a URL with one")
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def is_https_or_loopback(base_url: str) -> bool:
    """True where nobody on the way can read the provider key."""
    parts = urlsplit(base_url)
    if parts.scheme == "https":
        return True
    host = parts.hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def parse_proxy_url(text: str) -> Secret:
    """`http://proxy.example:3128`, or https. It may hold a user name and a password: never shown."""
    expected = "the URL of a proxy, such as http://proxy.example:3128"
    parts = _split(text, expected, schemes=("http", "https"))
    if parts.path not in ("", "/") or "?" in text or "#" in text:
        raise Mismatch(expected + ", without a path, query or fragment", found="a URL with one (not shown)")
    return Secret(text)


def parse_admin_token_name(text: str) -> str:
    """1 to 64 letters, digits, `_`, `.` and `-`: the ledger and the log show it."""
    if _PROVIDER_NAME.fullmatch(text) is None:
        raise Mismatch("a token's name: 1 to 64 letters, digits, `_`, `.` and `-`")
    return text


def parse_admin_token(text: str) -> Secret:
    """A bearer token that nobody guesses, as a header can carry it."""
    if _ADMIN_TOKEN.fullmatch(text) is None:
        raise Mismatch(
            f"a token of {ADMIN_TOKEN_CHARS_MIN} to 512 visible ASCII characters, no space",
            suggestion="`openssl rand -hex 32` makes one.",
        )
    return Secret(text)


def parse_state_url(text: str) -> str:
    """`sqlite:PATH`, `redis://host:6379/0` or `rediss://…`. It may hold a password: never shown."""
    expected = "sqlite:PATH, redis://host:6379/0 or rediss://host:6379/0"
    scheme, _, rest = text.partition(":")
    if scheme == "sqlite":
        if not rest or "\0" in rest:
            raise Mismatch(expected, found="sqlite: without a path")
        if rest.startswith("//"):
            raise Mismatch(expected, found="sqlite:// (a URL)", suggestion="Write the path right after `sqlite:`.")
        return text
    parts = _split(text, expected, schemes=("redis", "rediss"))
    if "?" in text or "#" in text:
        raise Mismatch(expected + ", without a query or fragment", found="a URL with one (not shown)")
    if _DATABASE_PATH.fullmatch(parts.path) is None:
        raise Mismatch(expected + ", whose path is the number of a database", found="a URL with another path")
    return text


def parse_cache_url(text: str) -> str:
    """What `parse_state_url` takes, or `none`. It may hold a password: never shown."""
    if text == NO_CACHE_STORE:
        return text
    try:
        return parse_state_url(text)
    except Mismatch as mismatch:
        expected = f"{mismatch.expected}; or {NO_CACHE_STORE}"
        raise Mismatch(expected, found=mismatch.found, suggestion=mismatch.suggestion) from None


def parse_pepper(text: str) -> Secret:
    """Base64 (RFC 4648, section 4) of 32 bytes."""
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raw = b""
    if len(raw) != PEPPER_BYTES:
        raise Mismatch(
            f"base64 of {PEPPER_BYTES} bytes", suggestion=f"`openssl rand -base64 {PEPPER_BYTES}` makes one."
        )
    return Secret(text)


def parse_provider_key(text: str) -> Secret:
    """A provider key: it is sent in a header, where a space or a line break would end it."""
    if _PROVIDER_KEY.fullmatch(text) is None:
        raise Mismatch("a provider key: visible ASCII characters, no space or line break")
    return Secret(text)


def _split(text: str, expected: str, schemes: tuple[str, ...]) -> SplitResult:
    """The parts of a URL with a host. What it raises shows no part of the text."""
    if _URL.fullmatch(text) is None:
        raise Mismatch(expected, found="a text that is no URL (not shown)")
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname or ""
    except ValueError:
        raise Mismatch(expected, found="a URL whose host or port cannot be read (not shown)") from None
    if parts.scheme not in schemes:
        raise Mismatch(expected, found="a text that does not begin so (not shown)")
    if not _is_url_host(host, bracketed="[" in parts.netloc) or port == 0:
        raise Mismatch(expected, found="a URL whose host or port cannot be read (not shown)")
    return parts


def _is_url_host(host: str, bracketed: bool) -> bool:
    if not bracketed:
        return _URL_HOST.fullmatch(host) is not None
    try:
        return ip_address(host).version == 6
    except ValueError:
        return False


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65_535
