"""`tollway keys issue`, `list` and `revoke`: virtual keys, beside a running gateway."""

import secrets
from argparse import Namespace

from proxy.cli.composition import Composition, OpenStores
from proxy.cli.instants import instant
from proxy.cli.limits import described, typed_limits
from proxy.cli.terminal import EXIT_OK, EXIT_USAGE, CommandFailed, Terminal
from proxy.core.clock import Clock
from proxy.core.errors import InvalidParameter
from proxy.identity.virtual_key import (
    ID_RANDOM_BYTES,
    TOKEN_RANDOM_BYTES,
    VirtualKey,
    digest,
    issue,
    mint,
    mint_id,
)
from proxy.settings.model import AuthMode, Settings

_HEADINGS = ("ID", "TENANT", "STATE", "USER", "FEATURE", "MODELS", "CREATED", "EXPIRES", "ENDS IN")


async def issue_virtual_key(
    arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """Make a virtual key, keep its digest, and print it once."""
    token = mint(secrets.token_bytes(TOKEN_RANDOM_BYTES))
    now_ms = clock.now_ms()
    try:
        virtual_key = issue(
            tenant_id=arguments.tenant,
            token=token,
            virtual_key_id=mint_id(secrets.token_bytes(ID_RANDOM_BYTES)),
            now_ms=now_ms,
            user=arguments.user,
            feature=arguments.feature,
            allowed_models=arguments.models,
            expires_at_ms=None if arguments.expires is None else now_ms + arguments.expires,
            limits=typed_limits(arguments),
        )
    except InvalidParameter as error:
        raise CommandFailed(error.message, exit_code=EXIT_USAGE) from None
    newest_pepper = composition.peppers_of(settings)[0]
    async with composition.open_stores(settings) as stores:
        await stores.virtual_keys.put(virtual_key, digest(token.reveal(), newest_pepper))
        tenant_known = await _is_known(virtual_key.tenant_id, settings, stores)
    # Stored first: a key that was printed and is not known would look like an outage later.
    terminal.say(token.reveal())
    terminal.answer({"virtual_key": token.reveal(), **_described(virtual_key, now_ms)})
    expiry = "" if virtual_key.expires_at_ms is None else f", until {instant(virtual_key.expires_at_ms)}"
    terminal.note(f"Issued {virtual_key.id} for {virtual_key.tenant_id}{expiry}. The key is shown only this once.")
    for note in _notes(virtual_key, settings, tenant_known):
        terminal.note(f"Note: {note}")
    return EXIT_OK


async def list_virtual_keys(
    arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """Show what was issued."""
    async with composition.open_stores(settings) as stores:
        virtual_keys = await stores.virtual_keys.list(arguments.tenant)
    now_ms = clock.now_ms()
    terminal.answer({"virtual_keys": [_described(virtual_key, now_ms) for virtual_key in virtual_keys]})
    if virtual_keys:
        terminal.table(_HEADINGS, [_row(virtual_key, now_ms) for virtual_key in virtual_keys])
    else:
        terminal.note("No virtual keys. `tollway keys issue --tenant T` makes one.")
    return EXIT_OK


async def revoke_virtual_key(
    arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """End a virtual key."""
    now_ms = clock.now_ms()
    async with composition.open_stores(settings) as stores:
        virtual_key = await stores.virtual_keys.revoke(arguments.id, now_ms)
    if virtual_key is None:
        raise CommandFailed(f"no virtual key has the id {arguments.id!r}. `tollway keys list` shows them.")
    terminal.say(f"Revoked {virtual_key.id} of {virtual_key.tenant_id}.")
    terminal.answer(_described(virtual_key, now_ms))
    return EXIT_OK


async def _is_known(tenant_id: str, settings: Settings, stores: OpenStores) -> bool:
    """Whether the gateway will serve this tenant's calls; the store is asked only where that depends on it."""
    auth = settings.auth
    if not auth.known_tenants_only or tenant_id in settings.tenants or tenant_id == auth.default_tenant:
        return True
    return await stores.tenants.find(tenant_id) is not None


def _notes(virtual_key: VirtualKey, settings: Settings, tenant_known: bool) -> list[str]:
    """Why this key, though it is valid, may not do what was hoped for."""
    notes = []
    auth, tenant_id = settings.auth, virtual_key.tenant_id
    if auth.mode is not AuthMode.VIRTUAL_KEYS:
        notes.append(f'auth.mode is "{auth.mode}": this gateway does not ask for virtual keys.')
    if not tenant_known:
        notes.append(
            f"{tenant_id} is not under [tenants], nor was it put with `tollway tenants put`, and "
            "auth.known_tenants_only is true: its calls are refused."
        )
    for alias in sorted(virtual_key.allowed_models or ()):
        model = settings.models.get(alias)
        if model is None and auth.default_provider is None:
            notes.append(f"no model is called {alias!r}.")
        elif model is not None and model.tenants is not None and tenant_id not in model.tenants:
            notes.append(f"the model {alias!r} is not for {tenant_id}.")
    return notes


def _described(virtual_key: VirtualKey, now_ms: int) -> dict[str, object]:
    models = virtual_key.allowed_models
    return {
        "id": virtual_key.id,
        "tenant": virtual_key.tenant_id,
        "state": str(virtual_key.state(now_ms)),
        "user": virtual_key.user,
        "feature": virtual_key.feature,
        "models": None if models is None else sorted(models),
        "limits": described(virtual_key.limits),
        "created_at": instant(virtual_key.created_at_ms),
        "expires_at": None if virtual_key.expires_at_ms is None else instant(virtual_key.expires_at_ms),
        "revoked_at": None if virtual_key.revoked_at_ms is None else instant(virtual_key.revoked_at_ms),
        "last_four": virtual_key.last_four,
    }


def _row(virtual_key: VirtualKey, now_ms: int) -> tuple[str, ...]:
    models = virtual_key.allowed_models
    return (
        virtual_key.id,
        virtual_key.tenant_id,
        str(virtual_key.state(now_ms)),
        virtual_key.user or "any",
        virtual_key.feature or "any",
        "all" if models is None else ",".join(sorted(models)),
        instant(virtual_key.created_at_ms),
        "never" if virtual_key.expires_at_ms is None else instant(virtual_key.expires_at_ms),
        f"…{virtual_key.last_four}",
    )
