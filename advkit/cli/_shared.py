"""Options and pieces that commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from advkit.cli._command import say_at_end
from advkit.errors import InputError, ModelError, UnknownName, first_line
from advkit.paths import shown
from advkit.trust import NOTHING, Trust, check_code, digest

if TYPE_CHECKING:
    from rich.console import Console
    from torch import nn

    from advkit.backbones import Classifier
    from advkit.data import Data
    from advkit.engine.defend import Defense
    from advkit.engine.specs import DataSpec, ModelSpec

__all__ = [
    "DataChoice",
    "ModelChoice",
    "bar",
    "check_format",
    "checked_device",
    "console",
    "defended",
    "form_and_quiet",
    "model_and_data",
    "models_and_data",
    "pairs",
    "trust_option",
    "trusted",
    "writable_folder",
]

F = TypeVar("F", bound=Callable[..., Any])


def form_and_quiet(command: F) -> F:
    """Add the options of a command that prints one table."""
    quiet = click.option("--quiet", is_flag=True, help="No progress and no header.")
    form = "table, markdown, csv, json, latex or html."
    return click.option("--format", "form", default="table", show_default=True, help=form)(quiet(command))


def model_and_data(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which model and which pictures; the command gets them as two choices, first."""
    return _choices(command, many=False)


def models_and_data(command: Callable[..., None]) -> Callable[..., None]:
    """The same for several models: the first choice is a tuple of them."""
    return _choices(command, many=True)


def _choices(command: Callable[..., None], many: bool) -> Callable[..., None]:
    @wraps(command)
    def gathered(
        *,
        model: str | tuple[str, ...],
        weights: str,
        normalize: str | None,
        model_settings: tuple[str, ...],
        device: str | None,
        seed: int,
        data: str,
        data_settings: tuple[str, ...],
        size: int | None,
        skip_bad: bool,
        trust_code: tuple[str, ...],
        class_order: str | None,
        **others: object,
    ) -> None:
        trust = trusted(trust_code)

        def choice(name: str) -> ModelChoice:
            spec, own = _with_weights(name) if many else (name, None)
            asked = trust | Trust.of(spec)
            return ModelChoice(spec, own or weights, normalize, model_settings, device, seed, name, asked)

        command(
            choice(model) if isinstance(model, str) else tuple(choice(name) for name in model or ("resnet",)),
            DataChoice(data, data_settings, size, skip_bad, class_order),
            **others,
        )

    named: dict[str, Any] = {"multiple": True} if many else {"default": "resnet", "show_default": True}
    options = [
        click.option("--model", metavar="NAME", help=_MODELS if many else _MODEL, **named),
        click.option("--weights", default="auto", show_default=True, metavar="FILE|NAME", help=_WEIGHTS),
        click.option("--normalize", metavar="NAME|MEAN:STD", help=_NORMALIZE),
        click.option("--data", default="signs", show_default=True, metavar="NAME|PATH", help=_DATA),
        click.option("--data-set", "data_settings", multiple=True, metavar="KEY=VALUE", help="A setting of the data."),
        click.option(
            "--model-set", "model_settings", multiple=True, metavar="KEY=VALUE", help="A setting of the model."
        ),
        click.option(
            "--size", type=int, help="Side in pixels to which pictures are brought (folders, pictures, signs)."
        ),
        click.option("--skip-bad", is_flag=True, help="Leave out picture files that cannot be read."),
        click.option(
            "--class-order",
            type=click.Choice(["number", "text"]),
            help="Of class folders named by numbers: by number (2 before 10), or letter by letter. [default: number]",
        ),
        click.option("--device", default=None, help="cpu, cuda, cuda:1 ... [default: cuda where there is one]"),
        click.option(
            "--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Seed of everything random."
        ),
        trust_option,
    ]
    for option in reversed(options):
        gathered = option(gathered)
    return gathered


def trust_option(command: F) -> F:
    """Add --trust-code."""
    return click.option(
        "--trust-code", multiple=True, metavar="SPEC", help="Code that a file may name: FILE.py:NAME[:ARG...], "
        "package.module:NAME, or a TorchScript file; its SHA-256 is shown. Repeatable."
    )(command)  # fmt: skip


def trusted(code: tuple[str, ...], *named: str | None) -> Trust:
    """What the caller wrote himself: ``code`` by --trust-code, and what a model is ``named`` that takes a stored one's place.

    Says on standard error what file each is, before anything of it runs; of what nothing needs, the command says so at its end.
    """
    for text in code:
        check_code(text, "--trust-code")
    found = Trust.of(*filter(None, named), code=code)
    for text in dict.fromkeys((*code, *filter(None, named))):
        if hashed := digest(text) if text in code or ":" in text else "":
            click.echo(f"trusted {shown(text, None)}, SHA-256 {hashed}", err=True)

    def left() -> list[str]:
        idle = filter(found.idle, dict.fromkeys(code))
        return [f"--trust-code {shown(text, None)} had no effect: no file that was read names it." for text in idle]

    say_at_end(left)
    return found


def _with_weights(name: str) -> tuple[str, str | None]:
    """``NAME@WEIGHTS`` as its two parts."""
    if "@" not in name:
        return name, None
    from advkit.engine.specs import with_weights

    return with_weights(name)


_MODEL = (
    "A backbone (advkit list backbones), torchvision:NAME, timm:NAME, hf:USER/REPO:FILE, FILE.py:FACTORY[:ARG...], "
    "package.module:FACTORY, or a model file (.safetensors, TorchScript, .onnx)."
)
_MODELS = f"{_MODEL} NAME@WEIGHTS says which weights; repeatable. [default: resnet]"
_WEIGHTS = (
    "A file (.safetensors, .pt; FILE:KEY where it holds several sets of weights), auto, random, or the name of embedded "
    "weights (standard, adversarial)."
)
_NORMALIZE = (
    "Normalisation inside the model: imagenet, cifar10, cifar100, gtsrb, mnist, none, or numbers as "
    "0.49,0.48,0.45:0.25,0.24,0.26."
)
_DATA = "A data set (advkit list datasets), a folder with one folder per class, an .npz file, or a picture."


def pairs(texts: tuple[str, ...], option: str) -> dict[str, str]:
    """KEY=VALUE texts as a dictionary; a key may be written with dashes."""
    split = [text.partition("=") for text in texts]
    for text, (key, equals, _) in zip(texts, split, strict=True):
        if not equals or not key:
            raise InputError(f"{option} is {text!r}; write it as KEY=VALUE.")
    return {key.replace("-", "_"): value for key, _, value in split}


@dataclass(frozen=True)
class DataChoice:
    """The options that say which pictures."""

    name: str
    settings: tuple[str, ...] = ()
    size: int | None = None
    skip_bad: bool = False
    class_order: str | None = None

    def spec(self, exclude: tuple[str, ...] = ()) -> DataSpec:
        """What any process can build the data from."""
        from advkit.engine.specs import DataSpec, settings_of

        settings: dict[str, object] = dict(pairs(self.settings, "--data-set"))
        if self.size is not None:
            settings["size"] = self.size
        if self.skip_bad:
            settings["skip_bad"] = True
        if self.class_order is not None:
            settings["class_order"] = self.class_order
        return DataSpec(self.name, settings_of(settings), exclude)

    def build(self, samples: int | None = None) -> Data:
        """The data."""
        return self.spec().build(samples)


@dataclass(frozen=True)
class ModelChoice:
    """The options that say which model; the data, or what is known of it, says the rest."""

    model: str
    weights: str
    normalize: str | None
    settings: tuple[str, ...]
    device: str | None
    seed: int
    name: str | None = None  # as it was given
    trust: Trust = NOTHING  # what the caller wrote himself

    @property
    def device_name(self) -> str:
        """The device asked for, or the best there is."""
        return checked_device(self.device)

    def spec(self) -> ModelSpec:
        """What any process can build the model from."""
        from advkit.engine.specs import ModelSpec, settings_of

        settings = settings_of(pairs(self.settings, "--model-set"))
        return ModelSpec(self.model, self.weights, self.normalize, settings, self.seed, self.name, trust=self.trust)

    def another(self, name: str) -> ModelChoice:
        """Another model, NAME or NAME@WEIGHTS, with its own normalisation, on the same device."""
        spec, weights = _with_weights(name)
        trust = self.trust | Trust.of(spec)
        return ModelChoice(spec, weights or "auto", None, (), self.device, self.seed, name, trust)

    def surrogate(self, name: str, data: Data) -> Classifier:
        """Such a model to make attacks on."""
        try:
            return self.another(name).build(data)
        except ModelError as error:
            how = "" if _with_weights(name)[1] else f" On a command line: --surrogate {name}@FILE."
            raise ModelError(f"--surrogate {name}: {error}{how}") from None

    def trained_by(self, objective: str) -> ModelChoice:
        """The same model with the shipped weights of a way to train; itself where none is named."""
        return replace(self, weights=self.spec().trained_by(objective).weights)

    def build(self, data: Data | None) -> Classifier:
        """The classifier."""
        from advkit.engine.memory import keep_freed_memory

        keep_freed_memory()
        return self.spec().build(data, self.device_name)


def checked_device(name: str | None) -> str:
    """The device asked for, or the best there is."""
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.partition(":")[0] == "meta":
        raise InputError("the device 'meta' holds shapes and no numbers; give cpu or cuda, or leave it out.")
    try:
        torch.empty(1, device=name).zero_()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = first_line(error).partition(". ")[0]
        if reason.startswith(("Expected one of", "Invalid device string")):
            reason = "torch knows no such device"
        raise InputError(f"the device {name!r} cannot be used here ({reason}); give cpu, or leave it out.") from None
    return name


def check_format(form: str) -> None:
    """Refuse a format that no table is printed in."""
    from advkit.results.table import FORMATS

    if form not in (*FORMATS, "json"):
        raise UnknownName("format", form, (*FORMATS, "json"))


def defended(
    choice: ModelChoice, pictures: DataChoice, samples: int, guard: Defense, screen: Console
) -> tuple[nn.Module, Data]:
    """The first so many pictures and the model with its defense, and a line on each."""
    from advkit.engine.defend import defend

    source = pictures.build(samples)
    net = choice.trained_by(guard.trained).build(source)
    behind = f", behind {guard.text}" if guard.wrappers else ""
    screen.print(f"model  {net.name}, weights {net.weights}{behind}", markup=False)
    count = f"{len(source):,} example{'s' if len(source) > 1 else ''}"
    screen.print(f"data   {source.name}, {count}{source.remark}", markup=False)
    return defend(net, guard.wrappers), source


def writable_folder(path: Path | None) -> None:
    """Refuse an output folder that cannot be written to, before anything is computed."""
    if path is None:
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".advkit-writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"the folder {path} cannot be written to ({error.strerror}); give another one.") from None


def console(quiet: bool = False) -> Console:
    """Where progress and headers go: standard error."""
    from rich.console import Console

    return Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)


@contextmanager
def bar(on: Console, title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar with the time left; on anything but a terminal, nothing."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=on, transient=True, disable=not on.is_terminal) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
