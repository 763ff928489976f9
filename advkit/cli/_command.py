"""What holds for every option of every command: said once, a number that can be one, a name that a file can have."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from advkit.errors import InputError
from advkit.numbers import MOST
from advkit.paths import check_path

__all__ = ["Command", "PathType", "refuse_idle", "say_at_end"]

_NOTES = "advkit.notes"
_CHAINS = {"--defense": "a chain is written with a plus, {}"}


class PathType(click.Path):
    """A path as an option takes it. Refused are those that no file can have: empty, too long, with a null character."""

    def __init__(self, **more: Any) -> None:
        super().__init__(path_type=Path, **more)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path. What is wrong with it is said with the option's name."""
        what = param.opts[0] if isinstance(param, click.Option) else "the path"
        check_path(what, str(value))
        return super().convert(value, param, ctx)


class Command(click.Command):
    """A command whose names and files are each said once, where only one can count, and whose numbers are finite."""

    def make_parser(self, ctx: click.Context) -> Any:
        """The parser, which notices an option that is given twice and says two things."""
        parser = super().make_parser(ctx)
        for option in {id(one): one for one in (*parser._long_opt.values(), *parser._short_opt.values())}.values():
            # Of a number the last one counts, as in other programs: who has one in an alias says another behind it.
            names = isinstance(option.obj.type, click.types.StringParamType | PathType)
            if option.action == "store_const" or (option.action == "store" and names):
                _once(option)
        return parser

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words, then look at the numbers and texts among them."""
        rest = super().parse_args(ctx, args)
        for param in self.params:
            if isinstance(param, click.Option):
                _check_number(param, ctx.params.get(param.name or ""))
                if param.flag_value != "":  # that of --targeted, where no rule follows
                    _check_text(param, ctx.params.get(param.name or ""), param.get_default(ctx))
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, then say what had no effect."""
        done = super().invoke(ctx)
        for notes in ctx.meta.get(_NOTES, ()):
            for note in notes():
                click.echo(f"Note: {note}", err=True)
        return done


def say_at_end(notes: Callable[[], Sequence[str]]) -> None:
    """What is only known when the command that runs has done its work."""
    ctx = click.get_current_context(silent=True)
    if ctx is not None:
        ctx.meta.setdefault(_NOTES, []).append(notes)


def refuse_idle(ctx: click.Context, why: str, *names: str) -> None:
    """Raise InputError where one of these parameters, which have no effect here, was given on the command line."""
    for param in ctx.command.params:
        if param.name in names and ctx.get_parameter_source(param.name) is click.core.ParameterSource.COMMANDLINE:
            raise InputError(f"{param.opts[0]} has no effect {why}; leave it out.")


def _once(option: Any) -> None:
    process = option.process

    def processed(value: Any, state: Any) -> None:
        before = state.opts.get(option.dest)
        process(value, state)
        after = state.opts[option.dest]
        if before is not None and (before != after or option.action == "store"):
            name = max(option.obj.opts, key=len)
            if option.action == "store_const" or not isinstance(before, str):
                raise InputError(f"{' and '.join(_named(option.obj))} say different things; give one of them.")
            hint = _CHAINS.get(name, "").format(f"{name} {before}+{after}")
            raise InputError(
                f"{name} is given twice, as {before} and as {after}, and only one can count; give it once"
                f"{f' ({hint})' if hint else ''}."
            )

    option.process = processed


def _named(param: click.Parameter) -> Sequence[str]:
    """The options that write to the same place."""
    ctx = click.get_current_context(silent=True)
    others = ctx.command.params if ctx is not None else [param]
    return [one.opts[0] for one in others if one.name == param.name]


def _check_text(param: click.Option, value: Any, default: object) -> None:
    """Refuse empty texts, which say nothing; a path says so itself."""
    for one in value if isinstance(value, tuple) else (value,):
        if isinstance(one, str) and not one.strip() and one != default:
            raise InputError(f"{param.opts[0]} is empty; give a value, or leave it out.")


def _check_number(param: click.Option, value: Any) -> None:
    """Refuse infinite numbers, NaN, and counts that no loop can reach; a type that has a range of its own says it itself."""
    for one in value if isinstance(value, tuple) else (value,):
        if isinstance(one, float) and not math.isfinite(one):
            raise InputError(f"{param.opts[0]} is {one}; give a finite number.")
        if isinstance(one, int) and abs(one) > MOST and getattr(param.type, "max", None) is None:
            said = f"{one:,}" if abs(one) < 10**40 else "a number of over 40 digits"
            raise InputError(f"{param.opts[0]} is {said}; give at most {MOST:,}.")
