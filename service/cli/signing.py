"""`interactions webhook-secret`: what signs a project's webhooks is made, read, rotated and retired."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import click

from service.cli.api import Json, connected, path_part
from service.cli.printing import print_json
from service.cli.target import Target, targeted
from service.settings.values import parse_seconds

_project: Final = click.option(
    "--project", metavar="ID", default="default", show_default=True, help="Whose webhooks it signs."
)
_as_json: Final = click.option("--json", "as_json", is_flag=True, help="As one line of JSON.")


@click.group("webhook-secret")
def webhook_secret() -> None:
    """Set up what receivers of webhooks check signatures by."""


@webhook_secret.command()
@targeted
@_project
@_as_json
def show(target: Target, project: str, as_json: bool) -> None:
    """Print the secret; while it is being rotated also the one before, which signs along."""
    _print(_call(target, "GET", project), as_json)


@webhook_secret.command()
@targeted
@_project
@_as_json
def create(target: Target, project: str, as_json: bool) -> None:
    """Make the first secret and print it."""
    _print(_call(target, "POST", project), as_json)


def _seconds(context: click.Context, parameter: click.Parameter, value: str) -> float:
    seconds = parse_seconds(value)
    if seconds is None:
        raise click.BadParameter("expected seconds or a duration like '30m', '12h', '7d'")
    return seconds


@webhook_secret.command()
@targeted
@_project
@click.option(
    "--keep",
    metavar="TIME",
    default="24h",
    show_default=True,
    callback=_seconds,
    help="How long the secret that is replaced signs along; 0 for one that has leaked.",
)
@_as_json
def rotate(target: Target, project: str, keep: float, as_json: bool) -> None:
    """Put a new secret in the place of the present one and print it."""
    _print(_call(target, "POST", project, "/rotate", {"keep_seconds": keep}), as_json)


@webhook_secret.command()
@targeted
@_project
@_as_json
def retire(target: Target, project: str, as_json: bool) -> None:
    """Sign no more with the secret before, whatever time it has left; print the one that stays."""
    _print(_call(target, "DELETE", project, "/previous"), as_json)


def _print(told: Json, as_json: bool) -> None:
    if as_json:
        print_json(told)
        return
    click.echo(told["webhook_secret"])
    if told["previous_secret"] is not None:
        click.echo(told["previous_secret"])
        until = told["previous_until"] or "the configuration changes"
        click.echo(f"the second one signs along until {until}", err=True)


def _call(
    target: Target, method: str, project: str, action: str = "", body: dict[str, Any] | None = None
) -> Json:
    async def call() -> Json:
        async with connected(target) as api:
            path = f"api/projects/{path_part(project)}/webhook-secret{action}"
            return await api.call(method, path, body=body)

    return asyncio.run(call())
