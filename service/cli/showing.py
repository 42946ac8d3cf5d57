"""`interactions show` and `chain`: one interaction whole, and the conversation around it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import click

from service.cli.api import Json, connected, path_part
from service.cli.drawing import drawn
from service.cli.printing import STYLES, dollars, is_terminal, plain, print_json, seconds
from service.cli.target import Target, targeted

if TYPE_CHECKING:
    from rich.text import Text

#: The same signs for terminals that know no others.
_ASCII: Final = str.maketrans("●○│├─", "*o||-")


@click.command()
@targeted
@click.argument("interaction_id")
@click.option("--json", "as_json", is_flag=True, help="Everything as one line of JSON.")
def show(target: Target, interaction_id: str, as_json: bool) -> None:
    """Show an interaction: what was asked, what was answered, what it took."""
    asyncio.run(_show(target, interaction_id, as_json=as_json))


async def _show(target: Target, name: str, *, as_json: bool) -> None:
    async with connected(target) as api:
        detail = await api.get(_path(name))
    if as_json:
        print_json(detail)
        return
    usage = detail["usage"] or {}
    members = {
        "id": detail["id"],
        "created": detail["created"],
        "status": detail["status"],
        "model": detail["model"] or detail["agent"],
        "deployment": detail["deployment"],
        "project": detail["project"],
        "labels": ", ".join(f"{label}={value}" for label, value in detail["labels"].items()),
        "follows": detail["previous_interaction_id"],
        "replay of": detail["replay_of"],
        "error": detail["error_message"] and f"{detail['error_code']}: {detail['error_message']}",
        "took": seconds(detail["duration"]),
        "first event": seconds(detail["first_event"]),
        "tokens": ", ".join(f"{kind.removesuffix('_tokens')} {count}" for kind, count in _counts(usage)),
        "cost": dollars(detail["cost"]),
        "attempts": str(len(detail["attempts"])),
    }
    for member, value in members.items():
        if value:
            click.echo(f"{click.style(f'{member:<12}', bold=True)}{plain(value)}")
    for title, body in (("asked", detail["request"]), ("answered", detail["response"])):
        click.secho(f"\n{title}", bold=True)
        _echo_json(body)


def _counts(usage: Json) -> list[tuple[str, int]]:
    return [(kind, count) for kind, count in usage.items() if isinstance(count, int)]


def _echo_json(body: Any) -> None:
    import json

    text = json.dumps(body, ensure_ascii=False, indent=2)
    if not is_terminal():
        click.echo(text)
        return
    from rich.syntax import Syntax

    from service.cli.printing import console

    console().print(Syntax(text, "json", background_color="default", word_wrap=True))


@click.command()
@targeted
@click.argument("interaction_id")
@click.option("--json", "as_json", is_flag=True, help="As one line of JSON.")
def chain(target: Target, interaction_id: str, as_json: bool) -> None:
    """Show the conversation around an interaction as a tree.

    On a terminal turns in line stand below each other; only what branches off is indented, before the line goes on.
    """
    asyncio.run(_chain(target, interaction_id, as_json=as_json))


async def _chain(target: Target, name: str, *, as_json: bool) -> None:
    async with connected(target) as api:
        told = await api.get(f"{_path(name)}/chain")
    if as_json:
        print_json(told)
        return
    members = [*told["ancestors"], told["interaction"], *told["descendants"]]
    children: dict[str | None, list[Json]] = {}
    known = {one["id"] for one in members}
    for one in members:
        parent = one["previous_interaction_id"]
        children.setdefault(parent if parent in known else None, []).append(one)
    here = told["interaction"]["id"]
    if is_terminal():
        _draw(children, here)
    else:
        _indent(children, here)
    if told["truncated"]:
        click.echo("there is more than is shown", err=True)


def _draw(children: dict[str | None, list[Json]], here: str) -> None:
    from rich.text import Text

    from service.cli.printing import console

    terminal = console()
    for place, root in enumerate(children[None]):
        if place:
            # Below each other they would be one line of turns.
            click.echo()
        for guides, one in drawn(root, children):
            mark = "● " if one["id"] == here else "○ "
            before = guides + mark
            if terminal.options.ascii_only:
                before = before.translate(_ASCII)
            told = Text(before).append_text(_node(one, here))
            fits = len(before) + len(one["id"]) <= terminal.width
            # No part of an id is left out; a terminal that is too narrow for it wraps it.
            terminal.print(told, no_wrap=True, overflow="ellipsis" if fits else "ignore", crop=fits)


def _node(one: Json, here: str) -> Text:
    from rich.text import Text

    text = Text.assemble(
        (one["id"], "bold" if one["id"] == here else ""), " ", (one["status"], STYLES.get(one["status"], ""))
    )
    text.append(
        f" {plain(one['model'] or one['agent'] or '-')} {dollars(one['cost'])} {seconds(one['duration'])}",
        "dim",
    )
    return text


def _indent(children: dict[str | None, list[Json]], here: str) -> None:
    waiting = [(one, 0) for one in reversed(children[None])]
    while waiting:
        one, depth = waiting.pop()
        mark = "*" if one["id"] == here else " "
        click.echo(
            f"{mark}{'  ' * depth}{one['id']}\t{one['status']}\t{plain(one['model'] or one['agent'] or '-')}"
        )
        waiting += [(child, depth + 1) for child in reversed(children.get(one["id"], []))]


def _path(name: str) -> str:
    return f"api/interactions/{path_part(name)}"
