"""The names by which callers may ask for a model, and rules of routing that name none of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from service.errors import ConfigurationError
from service.settings.model import ANY_MODEL, DeploymentSettings, RouterSettings
from service.settings.section import Section
from service.settings.values import nearest
from service.wire.model_names import bare_name


@dataclass(frozen=True, slots=True)
class Served:
    """The names of all entries of `model_list`; without one, every model is served."""

    names: frozenset[str]

    @classmethod
    def of(cls, deployments: Iterable[DeploymentSettings], skipped: Iterable[str]) -> Served:
        """Of deployments, and of entries for other providers: what refers to those is of no use, and no mistake."""
        names = set(skipped)
        for entry in deployments:
            names |= {entry.model_name, entry.model, f"gemini/{entry.model}"}
        return cls(frozenset(names))

    def has(self, name: str) -> bool:
        """Whether an entry serves what callers call so."""
        bare = bare_name(name)
        return not self.names or any(fnmatchcase(name, one) or fnmatchcase(bare, one) for one in self.names)


def check_models(section: Section, router: RouterSettings, served: Served) -> tuple[str, ...]:
    """What of `fallbacks` is never used, because nobody can ask for its model: dotted paths and the nearest names.

    LiteLLM takes such a rule without a word, and configurations bring along rules of models that are gone.
    Raises `ConfigurationError` for a model that is to stand in for another and that nothing serves.
    """
    aliases = router.model_group_alias
    for alias, model in aliases.items():
        _check(f"{section.name('model_group_alias')}.{alias}", model, served.has(model), served)
    fallbacks = {f"{section.name('fallbacks')}.{model}": names for model, names in router.fallbacks.items()}
    fallbacks[section.name("default_fallbacks")] = router.default_fallbacks
    for path, names in fallbacks.items():
        for name in names:
            _check(path, name, name in aliases or served.has(name), served)
    return tuple(
        f"{section.name('fallbacks')}.{model} (the nearest known model is {nearest(model, served.names)!r})"
        for model in router.fallbacks
        if model != ANY_MODEL and model not in aliases and not served.has(model)
    )


def _check(path: str, model: str, known: bool, served: Served) -> None:
    if not known:
        raise ConfigurationError(
            f"{path}: no entry of model_list serves {model!r}; the nearest known model is "
            f"{nearest(model, served.names)!r}"
        )
