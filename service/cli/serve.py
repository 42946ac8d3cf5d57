"""`interactions serve`: the service itself."""

from __future__ import annotations

import gc
import os

import click

from service.cli import logs
from service.settings import LoadedSettings, check_bind, check_upstream, load, show_config

_EMULATOR = "answers are made up by the built-in emulator, not by Gemini"


@click.command()
@click.option("--config", metavar="FILE", help="The configuration, YAML.")
@click.option("--host", metavar="H", help="The address to listen on.  [default: 127.0.0.1]")
@click.option(
    "--port", metavar="P", type=click.IntRange(0, 65_535), help="The port to listen on.  [default: 4000]"
)
@click.option(
    "--database-url",
    metavar="URL",
    help="Where interactions are stored.  [default: sqlite:///interactions.db]",
)
@click.option("--emulator", is_flag=True, help="Answer from the built-in emulator, not from Google.")
@click.option(
    "--or-emulator", is_flag=True, help="As --emulator, if there is neither a key nor a configuration."
)
@click.option(
    "--show-config", is_flag=True, help="Print the configuration in force, without secrets, and exit."
)
@click.option("--num_workers", type=int, hidden=True)
def serve(
    config: str | None,
    host: str | None,
    port: int | None,
    database_url: str | None,
    emulator: bool,
    or_emulator: bool,
    show_config: bool,
    num_workers: int | None,
) -> None:
    """Serve interactions over HTTP until stopped."""
    overrides: dict[str, object] = {
        "host": host,
        "port": port,
        "database_url": database_url,
        "emulator": emulator,
    }
    loaded = load(config, os.environ, overrides)
    if or_emulator and config is None and loaded.settings.default_deployment is None:
        loaded = load(None, os.environ, overrides | {"emulator": True})
    if show_config:
        _show(loaded)
        return
    check_upstream(loaded.settings)
    notices = [*loaded.warnings, *check_bind(loaded.settings)]
    if num_workers is not None and num_workers > 1:
        notices.append(
            "--num_workers means nothing here: run one more process on the same PostgreSQL for each worker"
        )
    if loaded.settings.emulator:
        notices.append(_EMULATOR if emulator else f"GEMINI_API_KEY is not set: {_EMULATOR}")

    # What loading makes stays: the collector would look through it again and again.
    gc.disable()
    from service.app import serve as run

    gc.enable()
    logs.configure()
    run(loaded.settings, notices)


def _show(loaded: LoadedSettings) -> None:
    for line in loaded.warnings:
        click.echo(f"warning: {line}", err=True)
    click.echo(show_config(loaded.settings), nl=False)
