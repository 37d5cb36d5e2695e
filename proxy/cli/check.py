"""`tollway check`: what is wrong with a configuration, what is unwise, and what can be reached."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from functools import partial

from proxy.cli.cache_store import own_faults
from proxy.cli.composition import Composition
from proxy.cli.configuration import Configuration
from proxy.cli.packages import missing_packages
from proxy.cli.provider_keys import unreadable_in_words
from proxy.cli.reach import endpoint_of, reach
from proxy.cli.terminal import EXIT_FAILED, EXIT_OK, CommandFailed, Terminal, counted
from proxy.core.clock import Clock
from proxy.core.errors import GatewayError, ProviderKeyUnreadable
from proxy.settings.caching import NO_CACHE_STORE
from proxy.settings.caching_checks import caching_places
from proxy.settings.model import AuthMode, AuthSettings, Settings, TransportKind
from proxy.settings.problem import SettingsError

TARGETS_AT_ONCE_MAX = 16


@dataclass(frozen=True, slots=True)
class Reached:
    """One thing that was tried; `failure` is None where it answered."""

    target: str
    failure: str | None


def refuse_settings(error: SettingsError, terminal: Terminal) -> int:
    """Show every problem of a configuration that is refused."""
    problems = [
        {
            "path": problem.path,
            "expected": problem.expected,
            "found": problem.found,
            "suggestion": problem.suggestion,
        }
        for problem in error.problems
    ]
    terminal.answer({"ok": False, "config": error.path, "problems": problems})
    for problem in error.problems:
        terminal.note(f"{error.path}: {problem}")
    terminal.fail(f"{error.path}: {counted(len(problems), 'problem')} to put right")
    return EXIT_FAILED


def warnings_of(settings: Settings, composition: Composition, now_ms: int) -> tuple[str, ...]:
    """What is legal and unwise, or will not work on this machine."""
    return (*settings.warnings, *composition.price_warnings(settings, now_ms), *missing_packages(settings))


async def check(configuration: Configuration, connect: bool, composition: Composition, terminal: Terminal) -> int:
    """Show what a valid configuration comes to, and try what it names if asked."""
    settings = configuration.settings
    warnings = (*warnings_of(settings, composition, Clock().now_ms()), *_nothing_served(settings))
    terminal.say(f"OK: {configuration.path} (version {settings.version})")
    for name, value in _summary(settings):
        terminal.say(f"  {name:<10} {value}")
    for warning in warnings:
        terminal.say(f"Warning: {warning}")
    reached = await _reach_all(settings, composition, terminal) if connect else []
    is_ok = all(one.failure is None for one in reached)
    terminal.answer(
        {
            "ok": is_ok,
            "config": str(configuration.path),
            "version": settings.version,
            "warnings": list(warnings),
            "reached": [{"target": one.target, "failure": one.failure} for one in reached],
        }
    )
    return EXIT_OK if is_ok else EXIT_FAILED


def _nothing_served(settings: Settings) -> Iterator[str]:
    auth = settings.auth
    if not settings.models and auth.default_provider is None and auth.mode is not AuthMode.PASSTHROUGH:
        yield "nothing is served: there is no model under [models], and auth.default_provider is not set. Write either."


async def _reach_all(settings: Settings, composition: Composition, terminal: Terminal) -> list[Reached]:
    """Try everything, some at once; each is told as soon as it is known, in the order of finishing."""
    slots = asyncio.Semaphore(TARGETS_AT_ONCE_MAX)

    async def attempt(target: str, connect: Callable[[], Awaitable[None]]) -> Reached:
        async with slots:
            try:
                await connect()
            except ProviderKeyUnreadable as error:
                failure: str | None = f"it refuses: {unreadable_in_words(error)}. docs/provider-keys.md says what to do"
            except GatewayError as error:
                failure = error.for_operators
            except CommandFailed as error:
                failure = error.message
            except TimeoutError:
                failure = "no answer in time"
            except (OSError, ValueError) as error:  # ValueError: a CA file that cannot be loaded
                failure = str(error) or type(error).__name__
            else:
                failure = None
        terminal.say(f"  {target}: {'reached' if failure is None else f'FAILED: {failure}'}")
        return Reached(target, failure)

    real = [one for one in settings.providers.values() if one.transport is not TransportKind.SIMULATED]
    attempts: list[Coroutine[None, None, Reached]] = [
        attempt("state", partial(_ask_state, settings, composition)),
        *([attempt("cache", partial(_ask_cache, settings, composition))] if _has_cache_store(settings) else ()),
        *([attempt("ledger", partial(_ask_sink, settings, composition))] if settings.ledger.sink != "none" else ()),
        *(
            attempt(f"KEK {kek.kind}:{kek.place}", partial(_try_kek, settings, composition, place))
            for place, kek in enumerate(settings.keyring.kek)
        ),
        *(attempt(f"{provider.name} at {endpoint_of(provider)}", partial(reach, provider)) for provider in real),
    ]
    return await asyncio.gather(*attempts)


async def _ask_state(settings: Settings, composition: Composition) -> None:
    async with composition.open_stores(settings) as stores:
        await stores.virtual_keys.ping()
        await stores.admission.check()


async def _ask_cache(settings: Settings, composition: Composition) -> None:
    async with composition.open_stores(settings) as stores:
        assert stores.cache is not None
        with own_faults(settings):
            await stores.cache.ping()


async def _ask_sink(settings: Settings, composition: Composition) -> None:
    async with composition.open_stores(settings) as stores:
        assert stores.sink is not None
        try:
            await stores.sink.probe()
        except OSError as error:
            raise CommandFailed(f"{settings.ledger.sink}: {error}") from None


async def _try_kek(settings: Settings, composition: Composition, place: int) -> None:
    async with composition.open_stores(settings) as stores:
        keyring = composition.command_keyring(settings, stores.keyring, Clock())
        assert keyring is not None
        try:
            await keyring.probe_kek(keyring.kek_ids[place])
        finally:
            await keyring.stop()


def _summary(settings: Settings) -> list[tuple[str, str]]:
    server, auth = settings.server, settings.auth
    default = f"all else goes to {auth.default_provider}" if auth.default_provider else "all else is 404"
    return [
        ("server", f"{server.bind}, administration on {server.admin_bind}; {counted(server.workers, 'worker')}"),
        ("state", f"{settings.state.shown_url} (folder {settings.state.folder.absolute()})"),
        ("cache", _cache(settings)),
        ("auth", f"{auth.mode}; {default}"),
        ("providers", _providers(settings)),
        ("models", str(len(settings.models))),
        ("plans", ", ".join(settings.plans)),
        ("keyring", _keks(settings)),
        ("tenants", f"{len(settings.tenants)} in the file{_others(auth)}"),
    ]


def _others(auth: AuthSettings) -> str:
    if auth.mode is AuthMode.PASSTHROUGH:
        return f"; every call is {auth.default_tenant}'s"
    return ", and those that were put" if auth.known_tenants_only else ", and whoever else is named"


def _cache(settings: Settings) -> str:
    if settings.auth.mode is AuthMode.PASSTHROUGH:
        return f'none: in mode "{settings.auth.mode}" no answer is kept'
    memory = "each process's memory" if settings.cache.memory_bytes_max else None
    store = settings.state.shown_kept_url if _has_cache_store(settings) else None
    where = " and ".join(filter(None, (store, memory))) or "nowhere"
    return f"{where}; the file turns it on in {counted(len(caching_places(settings)), 'place')}"


def _has_cache_store(settings: Settings) -> bool:
    return settings.state.kept_url != NO_CACHE_STORE


def _keks(settings: Settings) -> str:
    names = [f"{kek.kind}:{kek.place}" for kek in settings.keyring.kek]
    return ", then ".join(names) if names else "none: tenants cannot store provider keys"


def _providers(settings: Settings) -> str:
    names = [
        f"{name} (no key)" if provider.provider_key_wanted and provider.provider_key is None else name
        for name, provider in settings.providers.items()
    ]
    return ", ".join(names) if names else "none"
