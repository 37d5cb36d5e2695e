"""Deployments that are drained, and models that are switched, while the gateway runs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from proxy.administration.changes import Changes
from proxy.administration.refusals import DeploymentUnknown, ModelUnknown, SwitchInCircle
from proxy.core.clock import Clock
from proxy.core.types import Deployment
from proxy.ledger.change import Action
from proxy.routing.store import SwitchStore
from proxy.routing.switches import Switch, SwitchKind, in_force
from proxy.settings.model import Settings
from proxy.settings.routing_checks import leads_to
from proxy.settings.suggest import did_you_mean

StatusOf: TypeAlias = Callable[[], Mapping[str, Mapping[str, object]]]
"""How each deployment does that was asked, by label; a process that asks nobody has none."""


class KnownDeployment(NamedTuple):
    """A deployment of the configuration."""

    label: str
    models: tuple[str, ...]  # the aliases that it serves
    is_drained_in_file: bool
    switch: Switch | None  # it was drained at run time
    status: Mapping[str, object]

    @property
    def is_drained(self) -> bool:
        """True where it gets no new call."""
        return self.is_drained_in_file or self.switch is not None


class KnownModel(NamedTuple):
    """An alias of the configuration."""

    alias: str
    switched_to_in_file: str | None
    switch: Switch | None  # it was switched at run time

    @property
    def switched_to(self) -> str | None:
        """Which alias serves in its place; None: itself."""
        return self.switched_to_in_file if self.switch is None else self.switch.to


class RoutingAdministration:
    """Drains, switches and takes back. Every method raises StateUnavailable where the store does not answer in time,
    and ChangeRefused where it does nothing."""

    __slots__ = ("_actor", "_changes", "_clock", "_on_changed", "_settings", "_status_of", "_switches")

    def __init__(
        self,
        settings: Settings,
        switches: SwitchStore,
        changes: Changes,
        clock: Clock,
        actor: str,
        on_changed: Callable[[Sequence[Switch]], object],
        status_of: StatusOf,
    ) -> None:
        self._settings = settings
        self._switches = switches
        self._changes = changes
        self._clock = clock
        self._actor = actor
        self._on_changed = on_changed
        self._status_of = status_of

    async def deployments(self) -> list[KnownDeployment]:
        """Every deployment of the configuration, and what is drained though no model has it any more, by label."""
        drained = await self._held(SwitchKind.DEPLOYMENT)
        statuses = self._status_of()
        models: dict[str, list[str]] = {label: [] for label in drained}
        in_file: set[str] = set()
        for alias, model in self._settings.models.items():
            for each in model.deployments:
                label = Deployment(each.provider, each.model).label
                models.setdefault(label, []).append(alias)
                if each.drained:
                    in_file.add(label)
        return [
            KnownDeployment(label, tuple(aliases), label in in_file, drained.get(label), statuses.get(label, {}))
            for label, aliases in sorted(models.items())
        ]

    async def models(self) -> list[KnownModel]:
        """Every alias of the configuration, in its order; then what is switched though it has left it."""
        switched = await self._held(SwitchKind.MODEL)
        in_file = {alias: model.switched_to for alias, model in self._settings.models.items()}
        aliases = [*in_file, *(alias for alias in switched if alias not in in_file)]
        return [KnownModel(alias, in_file.get(alias), switched.get(alias)) for alias in aliases]

    async def drain(self, label: str, *, drained: bool) -> tuple[KnownDeployment, tuple[str, ...]]:
        """Take a deployment out of service, or put it back: how it is now, and what is to be said of it.

        Raises:
            DeploymentUnknown: no model has it, nor is it drained.
        """
        known = {each.label: each for each in await self.deployments()}
        if label not in known:
            raise DeploymentUnknown(label, did_you_mean(label, known))
        await self._set(SwitchKind.DEPLOYMENT, label, None, known[label].switch, is_set=drained)
        now = {each.label: each for each in await self.deployments()}
        found = now.get(label) or known[label]._replace(switch=None)  # put back, and no model has it
        return found, tuple(self._notes_of(found, now, drained=drained))

    async def switch(self, alias: str, to: str | None) -> tuple[KnownModel, tuple[str, ...]]:
        """Let another model serve in this one's place, or itself again: how it is now, and what is to be said of it.

        Raises:
            ModelUnknown: the configuration does not have one of them, nor is there anything to take back.
            SwitchInCircle: it would lead back to itself.
        """
        models, held = self._settings.models, await self._held(SwitchKind.MODEL)
        for name in (alias,) if to is None else (alias, to):
            if name not in models and (to is not None or name not in held):
                raise ModelUnknown(name, did_you_mean(name, models))
        if to is not None:
            self._refuse_circle(alias, {**in_force(held.values()).switched, alias: to})
        await self._set(SwitchKind.MODEL, alias, to, held.get(alias), is_set=to is not None)
        now = {each.alias: each for each in await self.models()}
        known = now.get(alias) or KnownModel(alias, None, None)  # restored, and the configuration does not have it
        if to is None and known.switched_to is not None:
            where = f"The configuration's file still switches {alias} to {known.switched_to}."
            return known, (where,)
        return known, ()

    async def _held(self, kind: SwitchKind) -> dict[str, Switch]:
        return {each.name: each for each in await self._switches.read() if each.kind is kind}

    def _refuse_circle(self, alias: str, switched: Mapping[str, str]) -> None:
        """A switch takes the place of all else that the file says of where a model leads."""
        seen, coming = set[str](), [switched[alias]]
        while coming:
            at = coming.pop()
            if at == alias:
                raise SwitchInCircle(alias, switched[alias])
            if at not in seen:
                seen.add(at)
                # A switch may lead to a model that has left the configuration since: that one leads nowhere.
                model = self._settings.models.get(at)
                coming += [switched[at]] if at in switched else leads_to(model) if model is not None else []

    async def _set(self, kind: SwitchKind, name: str, to: str | None, held: Switch | None, *, is_set: bool) -> None:
        if is_set != (held is not None) or (held is not None and held.to != to):
            await self._change(kind, name, to, is_set=is_set)
        self._on_changed(await self._switches.read())

    async def _change(self, kind: SwitchKind, name: str, to: str | None, *, is_set: bool) -> None:
        actions = {
            (SwitchKind.DEPLOYMENT, True): Action.DEPLOYMENT_DRAIN,
            (SwitchKind.DEPLOYMENT, False): Action.DEPLOYMENT_RESTORE,
            (SwitchKind.MODEL, True): Action.MODEL_SWITCH,
            (SwitchKind.MODEL, False): Action.MODEL_RESTORE,
        }
        details: dict[str, object] = {str(kind): name, **({} if to is None else {"to": to})}
        # It is about no tenant: its row stands with those whom nothing else names.
        await self._changes.announce(self._settings.auth.default_tenant, actions[kind, is_set], details)
        if is_set:
            await self._switches.put(Switch(kind, name, to, self._actor, self._clock.now_ms()))
        else:
            await self._switches.remove(kind, name)

    def _notes_of(
        self, deployment: KnownDeployment, known: Mapping[str, KnownDeployment], *, drained: bool
    ) -> Iterator[str]:
        if not drained and deployment.is_drained:
            yield f"The configuration's file still drains {deployment.label}."
        if not drained:
            return
        for alias in deployment.models:
            model = self._settings.models[alias]
            if all(known[Deployment(each.provider, each.model).label].is_drained for each in model.deployments):
                yield f"It was the last deployment in service of {alias}: every call of that model is refused now."
