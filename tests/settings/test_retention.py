"""Rules of retention in the configuration."""

from __future__ import annotations

import pytest
import yaml

from service.errors import ConfigurationError
from service.settings import Settings, load, show_config
from service.settings.model import RetentionRule
from service.settings.retention import read_retention

DAY = 86_400


def read(text: str) -> tuple[RetentionRule, ...]:
    return read_retention("general_settings.retention_policies", yaml.safe_load(text))


def test_rules_are_read_in_their_order() -> None:
    rules = read("[{project: tests, label: team=a, keep: 1d}, {label: team, keep: forever}, {keep: 90d}]")
    assert rules == (
        RetentionRule(keep=DAY, project="tests", label="team", label_value="a"),
        RetentionRule(keep=None, label="team"),
        RetentionRule(keep=90 * DAY),
    )
    assert [str(rule) for rule in rules] == ["project tests, label team=a", "label team", "all"]


def test_there_is_none_by_default() -> None:
    assert Settings().retention_policies == ()
    assert read_retention("x", None) == ()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{keep: 1d}", "expected a list"),
        ("[1d]", "[0]: expected a mapping"),
        ("[{}]", "[0].keep: expected a duration like 90d, or 'forever', got nothing"),
        ("[{keep: 0}]", "[0].keep: must be more than 0"),
        ("[{keep: soon}]", "[0].keep: expected a duration"),
        ("[{keeps: 1d}]", "[0].keeps: unknown; the nearest known key is 'keep'"),
        ("[{label: '=a', keep: 1d}]", "[0].label: has no name"),
        ("[{project: 7, keep: 1d}]", "[0].project: expected a string"),
        ("[{keep: 1d}, {project: a, keep: 2d}]", "[1]: nothing is left for it"),
        ("[{label: a, keep: 1d}, {label: a=b, project: c, keep: 2d}]", "[1]: nothing is left for it"),
    ],
)
def test_what_cannot_be_a_rule_is_refused(text: str, named: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(text)
    assert named in str(refused.value)


def test_they_are_shown_as_they_are_written() -> None:
    rules = read("[{project: tests, label: team=a, keep: 3600}, {keep: forever}]")
    shown = yaml.safe_load(show_config(Settings(retention_policies=rules)))
    written = shown["general_settings"]["retention_policies"]
    assert read_retention("x", written) == rules
    assert load(None, {}, {}).settings.retention_interval == 3_600
