"""What may be stored: names that a call can match, and a secret that a header can carry.

Pure.
"""

import re
from typing import Final

from proxy.core.errors import InvalidParameter
from proxy.core.label import is_label
from proxy.core.origin import origin_of
from proxy.core.secret import Secret
from proxy.core.tenant import TENANT_ID_RULE, is_tenant_id

_SECRET = re.compile(r"[!-~]{8,8192}")  # it stands in a request header
_PROVIDER = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_VIRTUAL_KEY_PREFIX: Final = "twk_"


def require_names(tenant_id: str, provider: str, user: str | None, origin: str) -> None:
    """Raises InvalidParameter for names that could never match a call."""
    if not is_tenant_id(tenant_id):
        raise InvalidParameter(TENANT_ID_RULE, param="tenant")
    if _PROVIDER.fullmatch(provider) is None:
        raise InvalidParameter("A provider's name is 1 to 64 of A-Z, a-z, 0-9, _, . and -.", param="provider")
    if user is not None and not is_label(user):
        message = "The user is empty, longer than 128 bytes of UTF-8, or holds control characters."
        raise InvalidParameter(message, param="user")
    try:
        is_plain = origin_of(origin) == origin
    except ValueError:
        is_plain = False
    if not is_plain:
        raise InvalidParameter("An origin is a scheme and a host, such as https://api.openai.com.", param="origin")


def require_secret(secret: Secret) -> None:
    """Raises InvalidParameter for what is no provider key. The message does not show it."""
    text = secret.reveal()
    if _SECRET.fullmatch(text) is None:
        message = "A provider key is 8 to 8192 visible ASCII characters, without a space or line break."
        raise InvalidParameter(message, param="secret")
    if text.startswith(_VIRTUAL_KEY_PREFIX):
        message = "This is a virtual key, which this gateway issues. Give the key that the provider issued."
        raise InvalidParameter(message, param="secret")
