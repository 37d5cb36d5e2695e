"""`tollway deployments` and `tollway models`: what is taken out of service and put back, beside a running gateway."""

from argparse import Namespace

from proxy.administration.descriptions import described_deployment, described_model
from proxy.administration.refusals import DeploymentUnknown, ModelUnknown, SwitchInCircle
from proxy.cli.composition import Composition
from proxy.cli.desk import open_command_desk
from proxy.cli.terminal import EXIT_OK, EXIT_USAGE, CommandFailed, Terminal
from proxy.core.clock import Clock
from proxy.core.instants import instant
from proxy.routing.switches import Switch
from proxy.settings.model import Settings


async def list_deployments(
    _arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """Show the deployments of the configuration."""
    async with open_command_desk(settings, composition, clock) as desk:
        known = await desk.routing.deployments()
    terminal.answer({"deployments": [described_deployment(each) for each in known]})
    if not known:
        terminal.note("No deployments: the configuration has no model.")
        return EXIT_OK
    rows = []
    for each in known:
        state = "drained in the file" if each.switch is None else f"drained since {_since(each.switch)}"
        rows.append((each.label, ", ".join(each.models) or "no model", state if each.is_drained else "in service"))
    terminal.table(("DEPLOYMENT", "SERVES", "STATE"), rows)
    return EXIT_OK


async def drain_deployment(
    arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """Take a deployment out of service, or put it back."""
    drained = arguments.command == "deployments drain"
    try:
        async with open_command_desk(settings, composition, clock) as desk:
            known, notes = await desk.routing.drain(arguments.label, drained=drained)
    except DeploymentUnknown as refused:
        message = f"no model has the deployment {refused.label!r}."
        hint = refused.suggestion or "`tollway deployments list` shows them."
        raise CommandFailed(f"{message} {hint}", exit_code=EXIT_USAGE) from None
    done = "Drained" if drained else "Put back in service:"
    terminal.say(f"{done} {known.label}. Running gateways see it within a second.")
    terminal.answer({**described_deployment(known), "notes": list(notes)})
    for note in notes:
        terminal.note(f"Note: {note}")
    return EXIT_OK


async def list_models(
    _arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """Show the models of the configuration."""
    async with open_command_desk(settings, composition, clock) as desk:
        known = await desk.routing.models()
    terminal.answer({"models": [described_model(each) for each in known]})
    if not known:
        terminal.note("No models: the configuration has none.")
        return EXIT_OK
    rows = []
    for each in known:
        since = "in the file" if each.switch is None else _since(each.switch)
        rows.append((each.alias, each.switched_to or "itself", since if each.switched_to is not None else ""))
    terminal.table(("MODEL", "SERVED BY", "SINCE"), rows)
    return EXIT_OK


async def switch_model(
    arguments: Namespace, settings: Settings, composition: Composition, terminal: Terminal, clock: Clock
) -> int:
    """Let another model serve in one's place, or itself again."""
    try:
        async with open_command_desk(settings, composition, clock) as desk:
            known, notes = await desk.routing.switch(arguments.alias, arguments.to)
    except ModelUnknown as refused:
        message = f"the configuration has no model {refused.alias!r}."
        hint = refused.suggestion or "`tollway models list` shows them."
        raise CommandFailed(f"{message} {hint}", exit_code=EXIT_USAGE) from None
    except SwitchInCircle as refused:
        message = f"{refused.to} leads back to {refused.alias}. Restore that first, or name another."
        raise CommandFailed(message, exit_code=EXIT_USAGE) from None
    by = "itself" if known.switched_to is None else known.switched_to
    terminal.say(f"{known.alias} is served by {by}. Running gateways see it within a second.")
    terminal.answer({**described_model(known), "notes": list(notes)})
    for note in notes:
        terminal.note(f"Note: {note}")
    return EXIT_OK


def _since(switch: Switch) -> str:
    return f"{instant(switch.at_ms)}, by {switch.by}"
