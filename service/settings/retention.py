"""From `retention_policies` to the rules of how long interactions are kept.

Of the rules that match an interaction the first counts, so the special ones stand before the general ones. What no
rule matches is kept for ever.
"""

from __future__ import annotations

from service.errors import ConfigurationError
from service.settings.model import RetentionRule
from service.settings.values import describe, mapping, nearest, parse_seconds, sequence, string

_KEYS = frozenset({"project", "label", "keep"})
FOREVER = "forever"


def read_retention(name: str, value: object) -> tuple[RetentionRule, ...]:
    """The rules in their order; raises `ConfigurationError` naming ``name`` for one that cannot be used."""
    if value is None:
        return ()
    rules: list[RetentionRule] = []
    for position, item in enumerate(sequence(name, value)):
        path = f"{name}[{position}]"
        rule = _rule(path, item)
        for earlier, other in enumerate(rules):
            if other.covers(rule):
                raise ConfigurationError(
                    f"{path}: nothing is left for it, because {name}[{earlier}] matches all of it and the first rule "
                    "that matches counts; put the special rule before the general one, or remove it"
                )
        rules.append(rule)
    return tuple(rules)


def _rule(path: str, item: object) -> RetentionRule:
    given = mapping(path, item)
    for key in given:
        if key not in _KEYS:
            raise ConfigurationError(
                f"{path}.{key}: unknown; the nearest known key is {nearest(str(key), _KEYS)!r}"
            )
    project, label, value = given.get("project"), None, None
    if given.get("label") is not None:
        label, separator, text = string(f"{path}.label", given["label"]).partition("=")
        value = text if separator else None
        if not label:
            raise ConfigurationError(f"{path}.label: has no name; write it as NAME or NAME=VALUE")
    return RetentionRule(
        keep=_keep(f"{path}.keep", given.get("keep")),
        project=None if project is None else string(f"{path}.project", project),
        label=label,
        label_value=value,
    )


def _keep(name: str, value: object) -> float | None:
    if value == FOREVER:
        return None
    seconds = parse_seconds(value) if value is not None else None
    if seconds is None or seconds <= 0:
        raise ConfigurationError(
            f"{name}: expected a duration like 90d, or {FOREVER!r}, got {describe(value)}"
            if seconds is None
            else f"{name}: must be more than 0, got {seconds:g}"
        )
    return seconds
