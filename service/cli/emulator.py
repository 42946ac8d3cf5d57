"""`interactions emulator`: a local Gemini Interactions API, for trying things without a key."""

from __future__ import annotations

import socket

import click

from service.errors import ConfigurationError
from service.settings.values import parse_seconds


class _Seconds(click.ParamType[float]):
    name = "seconds"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds = parse_seconds(value)
        if seconds is None or seconds < 0:
            self.fail(f"{value!r} is neither seconds nor a duration like 30s, 12h or 55d", param, ctx)
        return seconds


_SECONDS = _Seconds()


@click.command()
@click.option("--host", metavar="H", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    metavar="P",
    type=click.IntRange(0, 65_535),
    default=4001,
    show_default=True,
    help="The port; 0 finds one.",
)
@click.option(
    "--retention",
    metavar="SECONDS",
    type=_SECONDS,
    default="55d",
    show_default=True,
    help="How long it remembers.",
)
@click.option("--latency", metavar="SECONDS", type=_SECONDS, default=0.0, help="Wait before every answer.")
@click.option(
    "--token-delay", metavar="SECONDS", type=_SECONDS, default=0.0, help="Wait between events of a stream."
)
def emulator(host: str, port: int, retention: float, latency: float, token_delay: float) -> None:
    """Emulate Google's Interactions API until stopped."""
    listening = _listen(host, port)

    from service.emulator import EmulatorConfig, create_emulator
    from service.serving import run_loop, serve_on_socket

    app = create_emulator(
        EmulatorConfig(retention_seconds=retention, latency=latency, token_delay=token_delay)
    )
    click.echo(f"emulator: {_url(listening)}")
    run_loop(serve_on_socket(app, listening))


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=1024)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigurationError(
            f"--port {port}: cannot listen on {host} ({reason}); choose another"
        ) from error


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
