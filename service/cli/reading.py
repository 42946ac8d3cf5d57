"""`interactions logs` and `search`: lists of interactions."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from functools import partial
from itertools import pairwise
from typing import Final

import click

from service.cli.api import INTERRUPTED, Json, Parameters, connected
from service.cli.choosing import chosen
from service.cli.following import Following
from service.cli.listing import listed
from service.cli.printing import (
    dollars,
    is_terminal,
    number,
    plain,
    print_json,
    print_table,
    seconds,
)
from service.cli.target import Target, targeted

_COLUMNS: Final = ("created", "id", "status", "model", "tokens", "cost", "duration", "labels", "error")
_NUMBERS: Final = ("tokens", "cost", "duration")
#: Before what begins with a minus and is no option; no argument can have it.
_MARK: Final = "\0"


@click.command()
@targeted
@chosen()
@click.option("--limit", "-n", type=click.IntRange(1), default=50, show_default=True, help="How many.")
@click.option("--follow", "-f", is_flag=True, help="Go on with those that end from now on.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON each.")
def logs(target: Target, filters: list[tuple[str, str]], limit: int, follow: bool, as_json: bool) -> None:
    """List interactions, the newest last."""
    try:
        asyncio.run(_logs(target, filters, limit, follow=follow, as_json=as_json))
    except KeyboardInterrupt:
        if not follow:
            raise
        # There is no other way to end it, so nothing was aborted.
        raise click.exceptions.Exit(INTERRUPTED) from None


async def _logs(target: Target, filters: Parameters, limit: int, *, follow: bool, as_json: bool) -> None:
    async with connected(target) as api:
        following = Following(api, filters, partial(click.echo, err=True))
        if follow:
            await following.begin()
        newest = await listed(api, [*filters, ("order", "desc")], limit)
        newest.reverse()
        _print(newest, as_json=as_json)
        if follow:
            async for ended in following.news(newest):
                _print(ended, as_json=as_json, head=False)


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


class _Search(click.Command):
    """A command whose arguments may begin with a minus, and are no options then."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options = [one for one in self.get_params(ctx) if isinstance(one, click.Option)]
        names = {name for one in options for name in one.opts}
        with_values = {name for one in options if not (one.is_flag or one.count) for name in one.opts}
        marked = [
            _MARK + arg if before not in with_values and _leaves_out(arg, names) else arg
            for before, arg in pairwise(["", *args])
        ]
        rest = super().parse_args(ctx, marked)
        ctx.params["words"] = tuple(word.removeprefix(_MARK) for word in ctx.params["words"] or ())
        return rest


def _leaves_out(argument: str, options: Collection[str]) -> bool:
    """Whether this is a word to do without, and not an option such as ``-n 5`` or ``-n5``."""
    if not argument.startswith("-") or argument.startswith("--") or argument == "-":
        return False
    return argument[:2] not in options or not (len(argument) == 2 or argument[2:].isdigit())


def as_query(words: Sequence[str]) -> str:
    """What is searched for: an argument of several words, which the shell took the quotation marks of, is a phrase."""
    return " ".join(map(_term, words))


def _term(argument: str) -> str:
    minus = "-" if argument.startswith("-") and not argument[1:2].isspace() else ""
    parts = argument.removeprefix(minus).split()
    *others, last = parts or [""]
    if not others or "OR" in parts or '"' in argument:
        return argument
    if any(len(part) > 1 and part.startswith("-") for part in parts) or any(
        part.endswith("*") for part in others
    ):
        return argument
    bare = last.rstrip("*")
    return f'{minus}"{" ".join([*others, bare])}"{"*" if bare != last else ""}'


@click.command(cls=_Search)
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
    """Find interactions by words of their input or output: "a phrase", a prefix*, -without, one OR another."""
    order = "desc" if newest else "rank"
    asyncio.run(_search(target, [*filters, ("q", as_query(words)), ("order", order)], limit, as_json=as_json))


async def _search(target: Target, parameters: Parameters, limit: int, *, as_json: bool) -> None:
    async with connected(target) as api:
        found = await listed(api, parameters, limit)
    for one in found:
        if as_json:
            print_json(one)
            continue
        click.echo(
            f"{click.style(one['id'], bold=True)}\t{one['created'][:19]}\t{one['status']}\t{plain(one['model'] or '-')}"
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
