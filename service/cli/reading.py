"""`interactions logs`, `show`, `chain`, `search` and `usage`: what was asked, what was answered, at what cost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from service.cli.api import Api, Json, Parameters, connected
from service.cli.choosing import chosen
from service.cli.printing import (
    STYLES,
    dollars,
    is_terminal,
    number,
    plain,
    print_json,
    print_table,
    print_tree,
    seconds,
)
from service.cli.target import Target, targeted

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

_PAGE: Final = 1000
_POLL: Final = 1.0
_ENDLESS: Final = ("in_progress", "queued")
_COLUMNS: Final = ("created", "id", "status", "model", "tokens", "cost", "duration", "labels", "error")
_NUMBERS: Final = ("tokens", "cost", "duration")


@click.command()
@targeted
@chosen()
@click.option("--limit", "-n", type=click.IntRange(1), default=50, show_default=True, help="How many.")
@click.option("--follow", "-f", is_flag=True, help="Go on with those that end from now on.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON each.")
def logs(target: Target, filters: list[tuple[str, str]], limit: int, follow: bool, as_json: bool) -> None:
    """List interactions, the newest last."""
    asyncio.run(_logs(target, filters, limit, follow=follow, as_json=as_json))


async def _logs(target: Target, filters: Parameters, limit: int, *, follow: bool, as_json: bool) -> None:
    async with connected(target) as api:
        newest = await listed(api, [*filters, ("order", "desc")], limit)
        newest.reverse()
        _print(newest, as_json=as_json)
        if follow:
            await _follow(api, filters, newest, as_json=as_json)


async def _follow(api: Api, filters: Parameters, seen: Sequence[Json], *, as_json: bool) -> None:
    """Print what ends, until the command is interrupted; looks again from the oldest that still runs."""
    kept = [(name, value) for name, value in filters if name != "from"]
    told = {one["id"] for one in seen if one["status"] not in _ENDLESS}
    since = min(
        (one["created"] for one in seen if one["status"] in _ENDLESS),
        default=seen[-1]["created"] if seen else _now(),
    )
    while True:
        await asyncio.sleep(_POLL)
        found = await listed(api, [*kept, ("from", since), ("order", "asc")], None)
        ended = [one for one in found if one["status"] not in _ENDLESS]
        _print([one for one in ended if one["id"] not in told], as_json=as_json, head=False)
        running = [one["created"] for one in found if one["status"] in _ENDLESS]
        since = min(running, default=found[-1]["created"] if found else since)
        told = {one["id"] for one in ended if one["created"] >= since} | (told if not found else set())


def _now() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).isoformat()


async def listed(api: Api, parameters: Parameters, limit: int | None) -> list[Json]:
    """As many summaries of a list as there are, at most ``limit``."""
    found: list[Json] = []
    cursor: list[tuple[str, str]] = []
    while limit is None or len(found) < limit:
        size = _PAGE if limit is None else min(_PAGE, limit - len(found))
        page = await api.get("api/interactions", [*parameters, ("limit", str(size)), *cursor])
        found += page["interactions"]
        if page["next_cursor"] is None:
            break
        cursor = [("cursor", page["next_cursor"])]
    return found


def _print(found: Sequence[Json], *, as_json: bool, head: bool = True) -> None:
    if as_json:
        for one in found:
            print_json(one)
    elif found or head:
        rows = [_row(one) for one in found]
        print_table(_COLUMNS if head or is_terminal() else rows.pop(0), rows, numbers=_NUMBERS)


def _row(one: Json) -> list[str]:
    return [
        one["created"][5 if is_terminal() else 0 : 19].replace("T", " "),
        one["id"],
        one["status"],
        one["model"] or one["agent"] or "-",
        number((one["usage"] or {}).get("total_tokens")),
        dollars(one["cost"]),
        seconds(one["duration"]),
        ",".join(f"{name}={value}" for name, value in one["labels"].items()),
        one["error_code"] or "",
    ]


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
            click.echo(f"{click.style(f'{member:<12}', bold=True)}{value}")
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
    """Show the conversation around an interaction as a tree."""
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
        for root in children[None]:
            print_tree(_grown(root, children, here))
    else:
        _indent(children, here)
    if told["truncated"]:
        click.echo("there is more than is shown", err=True)


def _grown(root: Json, children: dict[str | None, list[Json]], here: str) -> Tree:
    from rich.tree import Tree

    tree = Tree(_node(root, here))
    waiting = [(root, tree)]
    while waiting:
        one, branch = waiting.pop()
        below = children.get(one["id"], [])
        waiting += [(child, branch.add(_node(child, here))) for child in below]
    return tree


def _node(one: Json, here: str) -> Text:
    from rich.text import Text

    text = Text.assemble(
        (one["id"], "bold" if one["id"] == here else ""), " ", (one["status"], STYLES.get(one["status"], ""))
    )
    text.append(f" {one['model'] or one['agent']} {dollars(one['cost'])} {seconds(one['duration'])}", "dim")
    return text


def _indent(children: dict[str | None, list[Json]], here: str) -> None:
    waiting = [(one, 0) for one in reversed(children[None])]
    while waiting:
        one, depth = waiting.pop()
        mark = "*" if one["id"] == here else " "
        click.echo(f"{mark}{'  ' * depth}{one['id']}\t{one['status']}\t{one['model'] or one['agent']}")
        waiting += [(child, depth + 1) for child in reversed(children.get(one["id"], []))]


@click.command()
@targeted
@chosen(search=False)
@click.argument("words", nargs=-1, required=True)
@click.option("--limit", "-n", type=click.IntRange(1), default=20, show_default=True, help="How many.")
@click.option("--newest", is_flag=True, help="The newest first, not the best.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON each.")
def search(
    target: Target,
    filters: list[tuple[str, str]],
    words: tuple[str, ...],
    limit: int,
    newest: bool,
    as_json: bool,
) -> None:
    """Find interactions by words of their input or output: "a phrase", a prefix*, -without."""
    order = "desc" if newest else "rank"
    asyncio.run(_search(target, [*filters, ("q", " ".join(words)), ("order", order)], limit, as_json=as_json))


async def _search(target: Target, parameters: Parameters, limit: int, *, as_json: bool) -> None:
    async with connected(target) as api:
        found = await listed(api, parameters, limit)
    for one in found:
        if as_json:
            print_json(one)
            continue
        click.echo(
            f"{click.style(one['id'], bold=True)}\t{one['created'][:19]}\t{one['status']}\t{one['model']}"
        )
        for snippet in one.get("snippets", []):
            click.echo(f"  {snippet['in']}: {_highlighted(snippet)}")


def _highlighted(snippet: Json) -> str:
    text, place = snippet["text"], 0
    told = ""
    for start, end in snippet["highlights"]:
        told += plain(text[place:start]) + click.style(plain(text[start:end]), bold=True, fg="yellow")
        place = end
    return told + plain(text[place:])


@click.command()
@targeted
@click.option(
    "--group-by", "-g", default="model", show_default=True, help="With commas: model,project,label:team,day."
)
@click.option("--since", "from_", metavar="TIME", help="The earliest: ISO 8601, or how long ago (24h).")
@click.option("--until", "to", metavar="TIME", help="The time before which it must be.")
@click.option("--tz", metavar="ZONE", help="The time zone of days and hours, such as Europe/Berlin.")
@click.option(
    "--filter", "-w", "wheres", multiple=True, metavar="NAME=VALUE", help="Such as model=gemini-2.5-flash."
)
@click.option("--json", "as_json", is_flag=True, help="As one line of JSON.")
def usage(
    target: Target,
    group_by: str,
    from_: str | None,
    to: str | None,
    tz: str | None,
    wheres: tuple[str, ...],
    as_json: bool,
) -> None:
    """Sum up tokens, requests, errors, cost and latency."""
    given = {"group_by": group_by or None, "from": from_, "to": to, "tz": tz}
    parameters = [(name, value) for name, value in given.items() if value is not None]
    for where in wheres:
        name, equals, value = where.partition("=")
        if not equals:
            raise click.BadParameter(f"{where!r} is not NAME=VALUE", param_hint="--filter")
        parameters.append((name, value))
    asyncio.run(_usage(target, parameters, as_json=as_json))


async def _usage(target: Target, parameters: Parameters, *, as_json: bool) -> None:
    async with connected(target) as api:
        told = await api.get("api/usage", parameters)
    if as_json:
        print_json(told)
        return
    groups: list[str] = told["group_by"]
    figures = ("requests", "errors", "input", "output", "thought", "cached", "total", "cost", "p50", "p95")
    rows = [
        [*(str(group[name] if group[name] is not None else "-") for name in groups), *_sums(group)]
        for group in told["groups"]
    ]
    if groups:
        rows.append([*("total" if not place else "" for place in range(len(groups))), *_sums(told["total"])])
    else:
        rows = [_sums(told["total"])]
    print_table([*groups, *figures], rows, numbers=figures)


def _named(value: Any) -> str:
    return "-" if value is None else str(value)


def _sums(sums: Json) -> list[str]:
    tokens = sums["tokens"]
    return [
        number(sums["requests"]),
        number(sums["errors"]),
        *(number(tokens[kind]) for kind in ("input", "output", "thought", "cached", "total")),
        "unknown" if sums["cost"] is None else dollars(sums["cost"]),
        seconds(sums["duration"]["p50"]),
        seconds(sums["duration"]["p95"]),
    ]


def _path(name: str) -> str:
    from urllib.parse import quote

    return f"api/interactions/{quote(name, safe='')}"
