"""What is typed after `tollway deployments` and `tollway models`."""

from argparse import ArgumentParser
from collections.abc import Callable

from proxy.cli.command_parser import COMMAND


def add_routing(add_parser: Callable[..., ArgumentParser], shared: ArgumentParser) -> None:
    """Both nouns and their verbs."""
    deployments = add_parser(
        "deployments",
        help="list, drain and restore deployments",
        description="Deployments: where models are served. A drained one gets no new call; those under way go on. "
        "Running gateways see it within a second.",
    )
    verbs = deployments.add_subparsers(title="commands", metavar=COMMAND, required=True)
    listing = verbs.add_parser(
        "list",
        parents=[shared],
        help="show the deployments of the configuration",
        description="Show the deployments of the configuration, the models that they serve, and what is drained.",
    )
    listing.set_defaults(command="deployments list")
    for verb, what in (("drain", "take a deployment out of service"), ("restore", "put a deployment back in service")):
        parser = verbs.add_parser(
            verb, parents=[shared], help=what, description=f"{what[0].upper()}{what[1:]}, at every running gateway."
        )
        parser.add_argument("label", metavar="PROVIDER/MODEL", help="as `tollway deployments list` shows it")
        parser.set_defaults(command=f"deployments {verb}")

    models = add_parser(
        "models",
        help="list, switch and restore models",
        description="Models: the aliases that callers name. A switched one is served by another; streams that have "
        "begun go on. Running gateways see it within a second.",
    )
    verbs = models.add_subparsers(title="commands", metavar=COMMAND, required=True)
    listing = verbs.add_parser(
        "list",
        parents=[shared],
        help="show the models of the configuration",
        description="Show the models of the configuration, and which other serves in their place.",
    )
    listing.set_defaults(command="models list")
    switch = verbs.add_parser(
        "switch",
        parents=[shared],
        help="let another model serve in one's place",
        description="Let another model serve in one's place, at every running gateway.",
        epilog="Example: tollway models switch gpt-5 --to gpt-5-mini",
    )
    switch.add_argument("alias", metavar="MODEL", help="as `tollway models list` shows it")
    switch.add_argument("--to", required=True, metavar="OTHER", help="the model that serves instead")
    switch.set_defaults(command="models switch")
    restore = verbs.add_parser(
        "restore",
        parents=[shared],
        help="let a model serve itself again",
        description="Let a model serve itself again, at every running gateway.",
    )
    restore.add_argument("alias", metavar="MODEL", help="as `tollway models list` shows it")
    restore.set_defaults(command="models restore", to=None)
