"""Who may use the admin API, and for what. Nobody, until the configuration names a token.

A token is compared by its digest, with every one that there is and without stopping early, so the
time of an answer says nothing of how near a guess was. No token reaches a log or a message.
"""

import hashlib
import hmac
from collections.abc import Sequence

from proxy.core.admin_errors import AdminNotConfigured, AdminRoleMissing, ForeignOrigin, InvalidAdminToken
from proxy.identity.caller import is_foreign_page
from proxy.settings.model import AdminRole, AdminSettings, AdminTokenSettings

CHALLENGE = b'Bearer realm="tollway-admin"'


class AdminTokens:
    """The tokens of one configuration."""

    __slots__ = ("_held", "settings")

    def __init__(self, settings: AdminSettings) -> None:
        self.settings = settings
        self._held = tuple((token, _digest(token.token.reveal().encode("ascii"))) for token in settings.tokens)

    def authenticate(self, credentials: Sequence[bytes]) -> AdminTokenSettings:
        """Whose token it is. `credentials` are the values of the request's authorization headers.

        Raises:
            AdminNotConfigured: nobody may administer this gateway.
            InvalidAdminToken: there is no token, or another one than the configuration's.
        """
        if not self._held:
            raise AdminNotConfigured(
                "The admin API of this gateway is closed: its configuration names no token. Its operator writes one "
                'under [admin]: tokens = [{ name = "ci", token = "env:TOLLWAY_ADMIN_TOKEN", roles = ["read"] }].'
            )
        scheme, _, presented = credentials[0].partition(b" ") if len(credentials) == 1 else (b"", b"", b"")
        if scheme.lower() != b"bearer" or not presented.strip():
            raise InvalidAdminToken("Send one admin token, as `Authorization: Bearer …`.")
        presented_digest = _digest(presented.strip())
        found = None
        for token, digest in self._held:
            if hmac.compare_digest(digest, presented_digest):
                found = token
        if found is None:
            raise InvalidAdminToken("This is no admin token of this gateway. [admin] tokens names those that are.")
        return found


def require_role(token: AdminTokenSettings, role: AdminRole | None) -> None:
    """Raises AdminRoleMissing. None: any valid token will do."""
    if role is not None and role not in token.roles:
        has = ", ".join(sorted(token.roles))
        raise AdminRoleMissing(
            f"This needs the role `{role}`, and the token {token.name!r} has: {has}. Use another token, or add the "
            "role under [admin] tokens."
        )


def refuse_foreign_pages(origins: Sequence[bytes]) -> None:
    """A page of another machine has no business here, whatever token was typed into it. Raises ForeignOrigin."""
    if any(is_foreign_page(origin) for origin in origins):
        raise ForeignOrigin(
            "The admin API serves no web page of another machine. Call it from a program, such as the page's server."
        )


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
