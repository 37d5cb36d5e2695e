"""Peppers of virtual keys: which keys are under which, and the end of one.

A key moves on to the newest pepper by being used. What is not used stays behind: it is shown, and
revoked when its pepper is retired, so that no key is left that is listed and works nowhere.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from proxy.administration.refusals import PepperIsNewest, PeppersUnnoted, PepperUnknown
from proxy.administration.virtual_keys import VirtualKeyAdministration
from proxy.core.clock import Clock
from proxy.identity.store import VirtualKeyStore
from proxy.identity.virtual_key import UNKNOWN_PEPPER, VirtualKey, VirtualKeyState, pepper_fingerprint

SLICE_VIRTUAL_KEYS: Final = 200

OnSeen: TypeAlias = Callable[[int], object]
"""Hears how many more virtual keys were seen to."""


class Standing(NamedTuple):
    """One pepper, by its fingerprint. Counted are virtual keys that work."""

    pepper: str  # `UNKNOWN_PEPPER`: of keys whose pepper nobody has noted
    place: int | None  # in the configuration's list, 0 the newest; None where it is not there
    virtual_keys: int  # that have a digest under it
    only_here: int  # that have none under another pepper of the configuration


@dataclass(frozen=True, slots=True)
class Survey:
    """All peppers at one time: the configuration's, newest first, then those that only virtual keys know of."""

    standings: Sequence[Standing]
    rest: Mapping[str, Sequence[VirtualKey]]  # by pepper: the keys that it alone opens
    moved: Mapping[str, Sequence[str]]  # by pepper: ids of keys that another one opens too, those that ended included


class Retired(NamedTuple):
    """What became of the keys that had a digest under a pepper."""

    revoked: int
    forgotten: int  # that go on without that digest


class PepperAdministration:
    """Every method raises StateUnavailable where the store does not answer in time; what was begun goes on when it is
    asked again."""

    __slots__ = ("_administration", "_clock", "_fingerprints", "_virtual_keys")

    def __init__(
        self,
        virtual_keys: VirtualKeyStore,
        administration: VirtualKeyAdministration,
        peppers: Sequence[bytes],
        clock: Clock,
    ) -> None:
        """`peppers` are the configuration's, newest first."""
        self._virtual_keys = virtual_keys
        self._administration = administration
        self._fingerprints = tuple(map(pepper_fingerprint, peppers))
        self._clock = clock

    async def survey(self, on_seen: OnSeen) -> Survey:
        """Look at every virtual key."""
        virtual_keys = await self._virtual_keys.list(None)
        now_ms = self._clock.now_ms()
        counts = dict.fromkeys(self._fingerprints, 0)
        rest: dict[str, list[VirtualKey]] = {}
        moved: dict[str, list[str]] = {}
        for start in range(0, len(virtual_keys), SLICE_VIRTUAL_KEYS):
            part = virtual_keys[start : start + SLICE_VIRTUAL_KEYS]
            under = await self._virtual_keys.peppers([virtual_key.id for virtual_key in part])
            for virtual_key, peppers in zip(part, under, strict=True):
                works = virtual_key.state(now_ms) is VirtualKeyState.ACTIVE
                for pepper in peppers:
                    if works:
                        counts[pepper] = counts.get(pepper, 0) + 1
                    if self._opens_without(pepper, peppers):
                        moved.setdefault(pepper, []).append(virtual_key.id)
                    elif works:
                        rest.setdefault(pepper, []).append(virtual_key)
            on_seen(len(part))
        standings = [self._standing(pepper, count, rest) for pepper, count in counts.items()]
        return Survey(standings, rest, moved)

    def check(self, pepper: str, survey: Survey, *, unnoted_too: bool) -> None:
        """Whether a pepper may be retired.

        Raises:
            PepperIsNewest: new virtual keys are issued under it.
            PepperUnknown: neither the configuration nor a virtual key knows it.
            PeppersUnnoted: keys may be under it of which nobody has noted it.
        """
        if pepper == self._fingerprints[0]:
            raise PepperIsNewest(pepper)
        known = {standing.pepper for standing in survey.standings} | survey.moved.keys()
        if pepper not in known or pepper == UNKNOWN_PEPPER:
            raise PepperUnknown(pepper)
        unnoted = survey.rest.get(UNKNOWN_PEPPER, ())
        if unnoted and not unnoted_too:
            raise PeppersUnnoted(pepper, len(unnoted))

    async def retire(self, pepper: str, survey: Survey, on_seen: OnSeen, *, unnoted_too: bool) -> Retired:
        """Revoke what this pepper alone opens, and forget the other keys' digests under it. Keys that moved on since
        the survey are spared. Raises as `check`."""
        self.check(pepper, survey, unnoted_too=unnoted_too)
        left_behind = [*survey.rest.get(pepper, ()), *(survey.rest.get(UNKNOWN_PEPPER, ()) if unnoted_too else ())]
        moved = list(survey.moved.get(pepper, ()))
        revoked = 0
        for virtual_key in left_behind:
            (peppers,) = await self._virtual_keys.peppers([virtual_key.id])
            if self._opens_without(pepper, peppers):
                moved.append(virtual_key.id)
                continue
            await self._administration.revoke(virtual_key.id)
            revoked += 1
            on_seen(1)
        for virtual_key_id in moved:
            await self._virtual_keys.drop_digest(virtual_key_id, pepper)
            on_seen(1)
        return Retired(revoked, len(moved))

    def _opens_without(self, pepper: str, peppers: frozenset[str]) -> bool:
        return any(other != pepper and other in self._fingerprints for other in peppers)

    def _standing(self, pepper: str, count: int, rest: Mapping[str, Sequence[VirtualKey]]) -> Standing:
        place = self._fingerprints.index(pepper) if pepper in self._fingerprints else None
        return Standing(pepper, place, count, len(rest.get(pepper, ())))
