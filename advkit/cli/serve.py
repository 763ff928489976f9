"""advkit serve."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from advkit.cli._command import Command, PathType


@click.command(cls=Command)
@click.argument("folder", metavar="DIR", type=PathType(file_okay=False))
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen at; others than this reach others."
)
@click.option("--open", "opens", is_flag=True, help="Open the page in a browser.")
def command(folder: Path, port: int, host: str, opens: bool) -> None:
    """Show the report of a sweep in a browser, live while the sweep runs.

    The page renews itself when results come in, and keeps your filters, your place and the picture you have open. A DIR
    that holds nothing yet shows that it waits. Ctrl-C ends it.
    """
    from advkit.results.serve import ReportServer, is_loopback

    server = ReportServer(folder, host, port)
    if not is_loopback(host):
        click.echo(f"Note: everyone who reaches {host} can read this report; it asks for no password.", err=True)
    click.echo(f"{folder} at {server.url} (Ctrl-C ends)")
    if opens:
        import webbrowser

        webbrowser.open(server.url)
    with server, suppress(KeyboardInterrupt):
        server.serve_forever()
