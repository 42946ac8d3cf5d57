"""The command group, and what all commands share: how a refused configuration is told."""

from __future__ import annotations

import sys
from errno import EPIPE
from io import StringIO
from typing import Any

import click

from service.cli.api import Failed
from service.cli.bringing_in import import_
from service.cli.emulator import emulator
from service.cli.exporting import export
from service.cli.migrate import migrate
from service.cli.reading import logs, search
from service.cli.reconcile import reconcile
from service.cli.replaying import replay
from service.cli.retaining import retention
from service.cli.serve import serve
from service.cli.showing import chain, show
from service.cli.signing import webhook_secret
from service.cli.summing import usage
from service.errors import ConfigurationError


class _Commands(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigurationError as error:
            click.echo(f"error: {' '.join(str(error).split())}", err=True)
            ctx.exit(error.exit_status)
        except OSError as error:
            # click ends quietly where nobody reads any more.
            if error.errno == EPIPE:
                raise
            # Otherwise what could not be written is tried once more, and told with a traceback, at the end.
            sys.stdout = StringIO()
            raise Failed(f"this cannot go on ({error})") from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="interactions-service")
def commands() -> None:
    """A durable gateway for the Gemini Interactions API."""


for _command in (
    serve,
    emulator,
    migrate,
    reconcile,
    logs,
    show,
    chain,
    search,
    usage,
    export,
    import_,
    replay,
    retention,
    webhook_secret,
):
    commands.add_command(_command)


def main() -> None:
    """Run the command that the arguments name, then exit."""
    commands(prog_name="interactions")
