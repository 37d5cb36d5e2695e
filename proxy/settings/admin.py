"""`[admin]`: who may use the admin API."""

from proxy.settings.model import AdminRole, AdminSettings, AdminTokenSettings
from proxy.settings.reader import Reader, Source
from proxy.settings.suggest import did_you_mean
from proxy.settings.values import Mismatch, parse_admin_token, parse_admin_token_name

_ROLES = tuple(str(role) for role in AdminRole)


def read_admin(at: Reader, source: Source) -> AdminSettings:
    """The whole section. A token whose reference is absent (`env?:`) is left out."""
    tokens: list[AdminTokenSettings] = []
    for entry in at.tables("tokens", required=False):
        token = _token(entry, source)
        if token is not None:
            _refuse_twins(token, tokens, entry.path, source)
            tokens.append(token)
    at.close()
    return AdminSettings(tuple(tokens))


def _refuse_twins(token: AdminTokenSettings, before: list[AdminTokenSettings], where: str, source: Source) -> None:
    """Whose change it was must be plain from the ledger."""
    for earlier in before:
        if earlier.name == token.name and token.name:
            source.report(f"{where}.name", "another name than the tokens before it", repr(token.name))
        if earlier.token == token.token:
            found = f"that of {earlier.name!r}"
            source.report(f"{where}.token", "a token of its own", found, "Or give the first one all the roles.")


def _token(at: Reader, source: Source) -> AdminTokenSettings | None:
    name = at.text("name", parse_admin_token_name, "", required="a name, which the ledger shows")
    token = at.text("token", parse_admin_token, None, secret=True, referred=True)
    roles = at.texts("roles", _role, None)
    at.close()
    if not at.has("token"):
        source.report(f"{at.path}.token", '"env:NAME" or "file:PATH"', "nothing")
    if not roles and source.is_sound(f"{at.path}.roles"):
        found = "nothing" if roles is None else "no role that can be read"
        source.report(f"{at.path}.roles", f"a list of {', '.join(_ROLES)}", found)
    return AdminTokenSettings(name, token, frozenset(roles or ())) if token is not None else None


def _role(text: str) -> AdminRole:
    if text not in _ROLES:
        raise Mismatch(f"one of {', '.join(_ROLES)}", suggestion=did_you_mean(text, _ROLES))
    return AdminRole(text)
