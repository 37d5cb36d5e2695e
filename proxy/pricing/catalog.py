"""The prices in force: what each provider's models cost, and from which day on.

Pure: whoever reads the files hands in their texts. Everything in them is checked before any of
it holds, also what nobody asks for: a price that is found to be broken when its model is first
called is found too late. Only the files of catalogues that the configuration names are read, so
that this costs a few milliseconds (`docs/pricing.md` has the figures).
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from proxy.core import jsonio
from proxy.core.errors import InvalidJson
from proxy.pricing.facts import ModelFacts
from proxy.pricing.problem import PriceError, PriceProblem
from proxy.pricing.reader import FileReader, Versions

REGION_MARK: Final = "@"
FAMILY_MARK: Final = "*"
# What a provider's own endpoint lets stand before a model's name.
_PREFIXES: Final = ("models/", "google/")
_HASH_DIGITS: Final = 8


@dataclass(frozen=True, slots=True)
class Catalog:
    """One immutable set of prices. `version` is the newest file's day and a hash of them all."""

    version: str
    _versions: Mapping[str, Mapping[str, Versions]]
    _families: Mapping[str, tuple[tuple[str, Versions], ...]]  # names that end in `*`, the longest first

    @property
    def names(self) -> frozenset[str]:
        """The catalogues that it holds."""
        return frozenset(self._versions)

    def models(self, catalog_name: str) -> Iterable[str]:
        """The names of a catalogue's models; none where there is no such catalogue."""
        return self._versions.get(catalog_name, {}).keys()

    def find(self, catalog_name: str, model: str, at_ms: int) -> ModelFacts | None:
        """What was known of a model at an instant; None where it had no price then.

        A fine-tuned model (`ft:base:owner::id`) has the price of `ft:base`, and a prefix that an
        endpoint allows (`models/gemini-…`) changes nothing. `name*` in a file stands for every
        model whose name begins so, and has no entry of its own.
        """
        models = self._versions.get(catalog_name)
        if models is None:
            return None
        versions = models.get(model) or models.get(_plain(model)) or self._family(catalog_name, model)
        if versions is None:
            return None
        if len(versions) == 1:
            from_ms, facts = versions[0]
            return facts if at_ms >= from_ms else None
        index = bisect_right(versions, at_ms, key=lambda version: version[0]) - 1
        return versions[index][1] if index >= 0 else None

    def _family(self, catalog_name: str, model: str) -> Versions | None:
        families = self._families[catalog_name]
        return next((versions for prefix, versions in families if model.startswith(prefix)), None)


def file_name(catalog_name: str) -> str:
    """The name, without `.json`, of the file that a catalogue is in: `openai` for `openai@eu`."""
    return catalog_name.partition(REGION_MARK)[0]


def parse_catalog(texts: Mapping[str, bytes]) -> Catalog:
    """Read whole files. `texts` holds each catalogue's file under the catalogue's name;
    `openai@eu` is OpenAI's file with what its European endpoint adds.

    Raises:
        PriceError: with everything that is wrong in any of them.
    """
    problems: list[PriceProblem] = []
    versions: dict[str, Mapping[str, Versions]] = {}
    content = hashlib.sha256()
    newest = ""
    for name, text in sorted(texts.items()):
        reader = FileReader(name, name.partition(REGION_MARK)[2] or None)
        try:
            versions[name] = reader.read(jsonio.parse(text))
        except InvalidJson:
            problems.append(PriceProblem(name, "JSON, in UTF-8", "something else"))
        problems += reader.problems
        newest = max(newest, reader.taken_on)
        content.update(b"%d:%b%b" % (len(name), name.encode(), hashlib.sha256(text).digest()))
    if problems:
        raise PriceError(tuple(problems))
    families = {name: tuple(_families(models)) for name, models in versions.items()}
    return Catalog("-".join(filter(None, (newest, content.hexdigest()[:_HASH_DIGITS]))), versions, families)


def _families(models: Mapping[str, Versions]) -> list[tuple[str, Versions]]:
    starred = [(name[:-1], versions) for name, versions in models.items() if name.endswith(FAMILY_MARK)]
    return sorted(starred, key=lambda family: len(family[0]), reverse=True)


def _plain(model: str) -> str:
    if model.startswith("ft:"):
        return ":".join(model.split(":", 2)[:2])
    for prefix in _PREFIXES:
        if model.startswith(prefix):
            return model.removeprefix(prefix)
    return model
