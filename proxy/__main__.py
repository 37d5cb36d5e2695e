"""The `tollway` command: reads what was typed, does it, and says in one line why it could not."""

import asyncio
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Final, TextIO, TypeAlias

from proxy.cli.arguments import parse_arguments
from proxy.cli.audit import list_changes
from proxy.cli.cache import purge_cache, show_cache
from proxy.cli.check import check, refuse_settings, warnings_of
from proxy.cli.composition import Composition
from proxy.cli.configuration import Configuration, read_configuration
from proxy.cli.keyring import prepare_tenant, rotate_dek, rotate_kek, show_keyring
from proxy.cli.keys import issue_virtual_key, list_virtual_keys, revoke_virtual_key
from proxy.cli.ledger import export_ledger, verify_ledger
from proxy.cli.peppers import retire_pepper, show_peppers
from proxy.cli.provider_keys import (
    delete_provider_key,
    list_provider_keys,
    put_provider_key,
    rotate_provider_key,
)
from proxy.cli.routing import drain_deployment, list_deployments, list_models, switch_model
from proxy.cli.shred import shred_tenant
from proxy.cli.state_place import announced_state, watched_state
from proxy.cli.tenants import delete_tenant, list_tenants, put_tenant
from proxy.cli.terminal import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_UNREAD, CommandFailed, NobodyReads, Terminal
from proxy.cli.usage import show_usage
from proxy.core.clock import Clock
from proxy.core.errors import GatewayError, StateUnavailable
from proxy.pricing.problem import PriceError
from proxy.settings.load import ReadFile
from proxy.settings.model import Settings
from proxy.settings.problem import SettingsError

Command: TypeAlias = Callable[[Namespace, Settings, Composition, Terminal, Clock], Coroutine[None, None, int]]

_COMMANDS: Final[Mapping[str, Command]] = {
    "keys issue": issue_virtual_key,
    "keys list": list_virtual_keys,
    "keys revoke": revoke_virtual_key,
    "keys peppers": show_peppers,
    "keys retire-pepper": retire_pepper,
    "provider-keys put": put_provider_key,
    "provider-keys list": list_provider_keys,
    "provider-keys rotate": rotate_provider_key,
    "provider-keys delete": delete_provider_key,
    "tenants put": put_tenant,
    "tenants list": list_tenants,
    "tenants delete": delete_tenant,
    "tenants shred": shred_tenant,
    "deployments list": list_deployments,
    "deployments drain": drain_deployment,
    "deployments restore": drain_deployment,
    "models list": list_models,
    "models switch": switch_model,
    "models restore": switch_model,
    "cache stats": show_cache,
    "cache purge": purge_cache,
    "keyring status": show_keyring,
    "keyring prepare": prepare_tenant,
    "keyring rotate-kek": rotate_kek,
    "keyring rotate-dek": rotate_dek,
    "usage": show_usage,
    "audit list": list_changes,
    "ledger export": export_ledger,
    "ledger verify": verify_ledger,
}


_READS_FOR_LONG: Final = frozenset({"usage", "audit list", "ledger export", "ledger verify"})
_NICENESS: Final = 10  # setpriority(2): a gateway on the same machine gets some nine tenths of a core that both want


def main(
    words: Sequence[str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    output: TextIO | None = None,
    errors: TextIO | None = None,
    typed: TextIO | None = None,
    composition: Composition | None = None,
) -> int:
    """Run one command; the process's exit code: 0 done, 1 failed, 2 typed wrongly.

    What is not given is the process's own: its arguments, environment and streams, and `proxy.app`.
    """
    arguments = parse_arguments(sys.argv[1:] if words is None else words)
    if words is None and arguments.command in _READS_FOR_LONG:
        _let_calls_go_first()
    terminal = Terminal(output or sys.stdout, errors or sys.stderr, arguments.as_json, typed or sys.stdin)
    try:
        return _run(arguments, os.environ if environ is None else environ, composition, terminal)
    except SettingsError as error:
        return refuse_settings(error, terminal)
    except PriceError as error:
        return _refuse_prices(error, terminal)
    except CommandFailed as error:
        terminal.fail(error.message)
        return error.exit_code
    except GatewayError as error:
        terminal.fail(error.for_operators)
    except (OSError, ValueError) as error:  # a folder, a pepper's file, a port that is taken
        terminal.fail(str(error))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except NobodyReads:
        if output is None:
            _write_nowhere()
        return EXIT_UNREAD
    return EXIT_FAILED


def _run(arguments: Namespace, environ: Mapping[str, str], composition: Composition | None, terminal: Terminal) -> int:
    clock = Clock()
    if arguments.command.startswith("prices "):  # which need no configuration: a broken one is no hindrance
        return _run_prices(arguments, terminal, clock)
    configuration = read_configuration(arguments.config, environ)
    try:
        return _run_configured(arguments, configuration, environ, composition or _composition(), terminal, clock)
    except StateUnavailable as error:  # a person wants to know which store
        raise CommandFailed(f"{configuration.settings.state.shown_url}: {error.for_operators}") from None


def _run_configured(
    arguments: Namespace,
    configuration: Configuration,
    environ: Mapping[str, str],
    app: Composition,
    terminal: Terminal,
    clock: Clock,
) -> int:
    settings = configuration.settings
    match arguments.command:
        case "serve":
            for warning in warnings_of(settings, app, clock.now_ms()):
                terminal.note(f"Warning: {warning}")
            if (announced := announced_state(settings)) is not None:
                terminal.note(f"Note: {announced}")
            path = str(configuration.path)
            return app.serve(settings, partial(_read_anew, path, environ))
        case "check":
            with watched_state("check", settings, terminal):
                return asyncio.run(check(configuration, arguments.connect, app, terminal))
        case name if name in _COMMANDS:
            with watched_state(name, settings, terminal):
                return asyncio.run(_COMMANDS[name](arguments, settings, app, terminal, clock))
        case unknown:
            raise AssertionError(f"no command is called {unknown}")


def _read_anew(
    path: str, environ: Mapping[str, str], through: Callable[[ReadFile], ReadFile] | None = None
) -> Settings:
    return read_configuration(path, environ, through).settings


def _write_nowhere() -> None:
    """What is left in the buffer would be written at the interpreter's end, and fail once more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _let_calls_go_first() -> None:
    """Whoever sums up a year can wait; the callers of a gateway on the same machine do not notice then."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)
    except OSError:  # a sandbox that forbids it
        pass


def _run_prices(arguments: Namespace, terminal: Terminal, clock: Clock) -> int:
    """Imported here: a gateway that starts needs neither."""
    from proxy.cli.prices import show_prices
    from proxy.cli.prices_update import update_prices

    command = show_prices if arguments.command == "prices show" else update_prices
    return command(arguments, terminal, clock)


def _refuse_prices(error: PriceError, terminal: Terminal) -> int:
    from proxy.cli.prices import refuse_prices

    return refuse_prices(error, terminal)


def _composition() -> Composition:
    """The real one. Imported here, so that help and a refused configuration answer at once."""
    from proxy import app

    return app


if __name__ == "__main__":
    sys.exit(main())
