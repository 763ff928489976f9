"""Every command with words that run quickly, to which one odd option is added."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import click

from fuzzing.case import Box
from fuzzing.stock import NET

__all__ = ["COMMANDS", "Command", "Option", "options"]

_NPZ = ("--data", "{stock}/data.npz", "--weights", "embedded:lenet-signs-standard")
_TINY = (*NET, *_NPZ)


@dataclass(frozen=True)
class Command:
    """Words of a command that ends in a result; ``{stock}`` and ``{box}`` are folders, ``copies`` go to the box before."""

    name: str
    words: tuple[str, ...]
    needs: tuple[str, ...] = ("pictures",)
    copies: tuple[str, ...] = ()
    runs: bool = True  # it ends by itself

    def build(self, *more: object) -> Callable[[Box], list[object]]:
        """Its words with some more."""

        def words(box: Box) -> list[object]:
            for name in self.copies:
                box.copy(name)
            places = {"stock": box.stock, "box": box.at}
            return [*self.name.split(), *(word.format(**places) for word in self.words), *more]

        return words


_SWEEP = (*_TINY, "--attack", "fgsm", "--samples", "2", "--out", "{box}/new")
COMMANDS = (
    Command("attack", (*_TINY, "--attack", "pgd", "--set", "steps=2")),
    Command("certify", (*_TINY, "--samples", "2", "--n", "10", "--n0", "5")),
    Command("check", (*_TINY, "--samples", "2", "--steps", "2", "--queries", "2")),
    Command("detect", (*_TINY, "--steps", "2", "--squeezer", "bits:5")),
    Command("drive", ("{box}/sticker", *NET, "--poses", "10@0", "--draws", "1"), ("sticker",), ("sticker",)),
    Command("drive", ("{box}/sticker", *NET, "--drive-by", "--draws", "1", "--every", "200"), ("sticker",), ("sticker",)),
    Command("figure", ("{stock}/store", "--kind", "curves", "--out", "{box}/figure.svg"), ("store",)),
    Command("init", ("{box}/study.toml", "--force"), ()),
    Command("list", ("losses",), ()),
    Command("list", ("backbones", "--only", "lenet"), ()),
    Command("photo", ("{box}/sticker", *NET, "--image", "{stock}/sign.png", "--corners", "1,1;30,1;30,30;1,30"),
            ("sticker", "pictures"), ("sticker",)),
    Command("print", ("{box}/sticker",), ("sticker",), ("sticker",)),
    Command("report", ("{stock}/store", "--out", "{box}/report.html"), ("store",)),
    Command("results check", ("{box}/store",), ("store",), ("store",)),
    Command("results compare", ("{stock}/store", "{stock}/store"), ("store",)),
    Command("results export", ("{stock}/store", "--out", "{box}/out.csv"), ("store",)),
    Command("results list", ("{stock}/store",), ("store",)),
    Command("results merge", ("{box}/merged", "{stock}/store"), ("store",)),
    Command("results show", ("{stock}/store", "nothing"), ("store",)),
    Command("serve", ("{stock}/store", "--port", "0"), ("store",), runs=False),
    Command("show", ("{box}/saved", "--only", "curves", "--examples", "1", "--quiet"), ("saved",), ("saved",)),
    Command("sticker", (*NET, "--steps", "1", "--views", "1", "--test-views", "1")),
    Command("sweep", _SWEEP),
    Command("table", ("{stock}/store",), ("store",)),
    Command("train", (*_TINY[:3], *_NPZ[:2], "--held-out", "{stock}/data.npz", "--epochs", "1", "--batch-size", "4",
                      "--validation", "2", "--out", "{box}/trained.safetensors")),
    Command("train-denoiser", (*_TINY, "--held-out", "{stock}/data.npz", "--epochs", "1", "--denoiser", "dncnn",
                               "--denoiser-set", "width=2", "--denoiser-set", "depth=2", "--out", "{box}/d.safetensors")),
    Command("verify", ("{box}/saved", "--quiet"), ("saved",), ("saved",)),
    Command("verify", ("{box}/store", "--quiet"), ("store",), ("store",)),
)  # fmt: skip


@dataclass(frozen=True)
class Option:
    """An option or argument of a command, as click knows it."""

    command: Command
    name: str  # --eps, or the name of an argument
    type: click.ParamType
    shown: str  # what help calls its value

    @property
    def place(self) -> str:
        """The command and the option."""
        return f"{self.command.name} {self.name if self.name.startswith('--') else '--(' + self.name + ')'}"

    def build(self, value: Callable[[Box], object] | object) -> Callable[[Box], list[object]]:
        """The command's words with this value; in place of an argument, or behind the rest."""
        if self.name.startswith("--"):
            return lambda box: [*self.command.build()(box), self.name, value(box) if callable(value) else value]

        def replaced(box: Box) -> list[object]:
            words = self.command.build()(box)
            words[len(self.command.name.split())] = value(box) if callable(value) else value
            return words

        return replaced


def options() -> Iterator[Option]:
    """Every option with a value of every command, and the first argument."""
    from advkit.cli import cli

    for command in COMMANDS:
        found: click.Command | None = cli
        for name in command.name.split():
            assert isinstance(found, click.Group)
            found = found.get_command(click.Context(found), name)
        assert found is not None
        arguments = [each for each in found.params if isinstance(each, click.Argument)][:1]
        flags = [each for each in found.params if isinstance(each, click.Option) and not each.is_flag]
        for param in (*arguments, *flags):
            yield Option(command, param.opts[0], param.type, str(param.metavar or ""))
