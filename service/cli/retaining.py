"""`interactions retention`: the rules applied now or tried dry, and legal holds."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import click

from service.cli.api import Api, Json, Parameters, Part, connected, path_part
from service.cli.printing import length, number, print_json, print_table
from service.cli.target import Target, targeted

#: Seconds between two looks for what is still to be derived, and after which that is waited for no longer if it is
#: never less.
_LOOK: Final = 0.5
_PATIENCE: Final = 30.0


@click.group()
def retention() -> None:
    """Let go of what is due by the rules of retention, and hold what must stay."""


@retention.command()
@targeted
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
@click.option(
    "--whole", is_flag=True, help="Rewrite a SQLite file to its least size; nobody can write meanwhile."
)
@click.option("--json", "as_json", is_flag=True, help="As one line of JSON.")
def run(target: Target, dry_run: bool, whole: bool, as_json: bool) -> None:
    """Apply the rules of the configuration (general_settings.retention_policies) now."""
    told = asyncio.run(_applied(target, {"dry_run": dry_run, "whole": whole}))
    if as_json:
        print_json(told)
        return
    columns = ("rule", "kept", "due", "bytes", "held", "running", "waiting")
    rows = [
        [
            rule["rule"],
            "forever" if rule["keep_seconds"] is None else length(rule["keep_seconds"]),
            *(number(rule[name]) for name in columns[2:]),
        ]
        for rule in told["rules"]
    ]
    print_table(columns, rows, numbers=columns[1:])
    if dry_run:
        click.echo("nothing was changed: this was a dry run", err=True)
    else:
        dropped = f", {len(told['partitions'])} partitions were dropped" if told["partitions"] else ""
        click.echo(
            f"{told['expired']} have expired, {told['erased']} were erased{dropped}, "
            f"{told['bytes_given_back']} bytes were given back",
            err=True,
        )


@retention.command()
@targeted
@click.option("--json", "as_json", is_flag=True, help="One line of JSON each.")
def holds(target: Target, as_json: bool) -> None:
    """List legal holds, the released ones as well."""
    found = _call(target, "GET", "api/holds")["holds"]
    if as_json:
        for hold_ in found:
            print_json(hold_)
        return
    columns = ("id", "on", "reason", "created", "released")
    rows = [
        [
            one["id"],
            one["interaction"] or (f"label {one['label']}" if one["label"] else "the project"),
            one["reason"] or "",
            one["created"],
            one["released"] or "",
        ]
        for one in found
    ]
    print_table(columns, rows)


@retention.command()
@targeted
@click.argument("interaction_id", required=False)
@click.option("--label", metavar="NAME=VALUE", help="Hold whatever carries this label.")
@click.option("--project", is_flag=True, help="Hold everything of the key's project.")
@click.option("--reason", help="Why; it is told to whoever wants to delete what is held.")
def hold(
    target: Target, interaction_id: str | None, label: str | None, project: bool, reason: str | None
) -> None:
    """Hold an interaction, a label or the whole project: no rule and no delete touches it."""
    if sum((interaction_id is not None, label is not None, project)) != 1:
        raise click.UsageError("Name an interaction, or give --label or --project.")
    body = {} if reason is None else {"reason": reason}
    if interaction_id is not None:
        told = _call(target, "PUT", f"api/interactions/{path_part(interaction_id)}/hold", body=body)
    else:
        told = _call(target, "POST", "api/holds", body=body if label is None else {**body, "label": label})
    click.echo(told["id"])


@retention.command()
@targeted
@click.argument("what")
@click.option("--hold", "which", metavar="ID", help="Of several holds of an interaction, this one.")
def release(target: Target, what: str, which: str | None) -> None:
    """Release a hold, by its id or by that of the interaction that it is on."""
    name = path_part(what)
    is_hold = len(what) == 36 and what.count("-") == 4
    parameters = [] if which is None else [("hold", which)]
    _call(target, "DELETE", f"api/holds/{name}" if is_hold else f"api/interactions/{name}/hold", parameters)
    click.echo(f"{what} is held no more")


async def _applied(target: Target, body: dict[str, Any]) -> Json:
    """Apply the rules when everything that they judge can be judged: a database may have just been filled."""
    async with connected(target, Part.JUDGING) as api:
        told = await _derived(api)
        return told if body["dry_run"] else await api.call("POST", "api/retention", body=body)


async def _derived(api: Api) -> Json:
    """What the rules would do once nothing waits for its figures, or what waits gets no less."""
    loop = asyncio.get_running_loop()
    least, moved_at = None, loop.time()
    while True:
        report = await api.call("POST", "api/retention", body={"dry_run": True})
        waiting = sum(rule["waiting"] for rule in report["rules"])
        if not waiting or loop.time() - moved_at >= _PATIENCE:
            return report
        if least is None or waiting < least:
            least, moved_at = waiting, loop.time()
        await asyncio.sleep(_LOOK)


def _call(
    target: Target,
    method: str,
    path: str,
    parameters: Parameters = (),
    body: dict[str, Any] | None = None,
) -> Json:
    async def call() -> Json:
        async with connected(target) as api:
            return await api.call(method, path, parameters, body)

    return asyncio.run(call())
