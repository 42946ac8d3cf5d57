"""`interactions usage`: what was used and what it cost, summed up."""

from __future__ import annotations

import asyncio

import click

from service.cli.api import Json, Parameters, connected
from service.cli.choosing import since, until
from service.cli.printing import dollars, number, print_json, print_table, seconds
from service.cli.target import Target, targeted


@click.command()
@targeted
@click.option(
    "--group-by", "-g", default="model", show_default=True, help="With commas: model,project,label:team,day."
)
@since("from_")
@until("to")
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
