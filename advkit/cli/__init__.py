"""The command line: one file per command, each parse, build, run, render. Help answers without importing torch."""

from __future__ import annotations

import importlib
import os
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import click

from advkit.cli._output import tolerant_streams
from advkit.cli._signals import ended_by_signals, exit_code
from advkit.paths import shown
from advkit.private import kept_words, redacted

__all__ = ["main"]

_COMMANDS = {
    "attack": "Attack a model and print its robustness table.",
    "check": "Tell whether a model or a defense masks its gradients.",
    "certify": "Certify up to which radius nothing changes a model's predictions.",
    "detect": "Tell how well a detector finds attacked pictures, and an attack that knows it.",
    "drive": "Tell how often a sign with a sticker is misread, over distances, angles and drives.",
    "figure": "Draw curves, trade-offs, classes, distances or transfer from the results of a sweep.",
    "init": "Write a commented study file for advkit sweep.",
    "list": "List attacks, backbones, data sets, defenses and more.",
    "photo": "Score photographs of a printed sticker.",
    "print": "Print a sticker at its true size as a PDF.",
    "report": "Write the results of a sweep as one HTML page.",
    "results": "List, filter, compare, merge and export the results of sweeps.",
    "serve": "Show the report of a sweep in a browser while the sweep runs.",
    "show": "Draw what was saved: examples, curves per step, distances, confusion.",
    "sticker": "Design one sticker that makes a sign be misread from everywhere.",
    "sweep": "Evaluate models x defenses x attacks x radii, resumably, and print one table.",
    "table": "Print the results of a sweep as a table.",
    "train": "Train a backbone and write its weights.",
    "train-denoiser": "Train a denoiser to stand in front of a model and write its weights.",
    "verify": "Verify what was saved: ask again, measure again, count again.",
}


_WORD = 400  # characters of a word in a message that are shown


class _Lazy(click.Group):
    """Commands are imported when they are called: advkit.cli.NAME holds ``command``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"advkit.cli.{name.replace('-', '_')}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(_COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            from advkit.errors import UnknownName

            raise UnknownName("command", args[0], _COMMANDS)
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Lazy,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="advkit")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Adversarial robustness research toolkit.

    \b
    advkit attack --model resnet --eps 8/255   print a robustness table
    advkit attack --help                       every option
    advkit list attacks                        what there is
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(args: Sequence[str] | None = None) -> None:
    """Run a command line. Bad input: one sentence on standard error and exit code 2; Ctrl-C: 130; a bug: its traceback.

    A standard output that is full or closed costs no result: the command goes on, says so at its end, and exits with 1.
    """
    with tolerant_streams() as unheard:
        code = _run(None if args is None else [*args])
    if unheard:
        click.echo(f"Error: standard output cannot be written ({unheard[0]}); what was to be saved is saved.", err=True)
        code = code or 1
    sys.exit(code)


def _run(given: list[str] | None) -> int:
    """The exit code of a command line."""
    from advkit.errors import AdvkitError, InputError, ThreatViolation

    # Read when torch is loaded. A thread that spins while it waits keeps the thread it waits for off a busy processor.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # The words as they were given, for what is to be done again by the same command.
    words = sys.argv[1:] if given is None else given
    try:
        if any("\0" in word for word in words):
            raise InputError("a word of the command line holds a null character; nothing has such a name.")
        with ended_by_signals(), warnings.catch_warnings():
            warnings.showwarning = _note
            code: Any = cli.main(args=given, prog_name="advkit", standalone_mode=False, obj=[*map(kept_words, words)])
    except SystemExit as ended:
        code = ended.code
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "advkit"
        message = _short(error.format_message())
        click.echo(f"Error: {message}{'' if message.endswith(('.', '?')) else '.'} See {where} --help.", err=True)
        return 2
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return exit_code()
    except InputError as error:
        click.echo(f"Error: {_short(str(error))}", err=True)
        return 2
    except ThreatViolation:  # a bug, and its place is worth knowing
        raise
    except AdvkitError as error:
        click.echo(f"Error: {_short(str(error))}", err=True)
        return 1
    except OSError as error:
        if error.filename is None:  # not of a file that somebody named
            raise
        click.echo(f"Error: {_short(str(error.filename))} cannot be used: {error.strerror}.", err=True)
        return 2
    return code if isinstance(code, int) else 0


def _short(message: str) -> str:
    """A sentence in one line, in which what was given, a path or a number, is not longer than a reader can look through."""
    message = shown(redacted(message), None)
    return re.sub(rf"\S{{{_WORD},}}", lambda found: f"{found[0][: _WORD // 2]} ... {found[0][-_WORD // 4 :]}", message)


def _note(message: Warning | str, *_: object, **__: object) -> None:
    """A warning as a reader of the command line wants it: without a line of source."""
    click.echo(f"Note: {message}", err=True)
