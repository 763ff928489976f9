"""advkit train."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from advkit.cli._command import Command, PathType
from advkit.cli._shared import DataChoice, ModelChoice, console, model_and_data, pairs, writable_folder
from advkit.cli._signals import exit_code
from advkit.errors import AdvkitError, InputError

if TYPE_CHECKING:
    from rich.console import Console

    from advkit.backbones import Classifier
    from advkit.core.defense import Objective
    from advkit.data import Data
    from advkit.engine.training import Epoch, Ranks, Recipe, Training
    from advkit.engine.training.file import RecipeFile

_MEASURED = 1000  # test examples attacked at the end

# The fields of advkit.engine.training.Recipe; what is left out is the recipe file's, else the default of the field.
_RECIPE: tuple[tuple[str, Any, str], ...] = (
    ("--epochs", int, "Rounds through the data. [default: 15]"),
    ("--batch-size", int, "Examples per step of each process. [default: 128]"),
    ("--optimizer", str, "sgd or adamw. [default: sgd]"),
    ("--learning-rate", float, "The schedule's highest. [default: 0.1]"),
    ("--schedule", str, "one-cycle, cyclic, cosine, piecewise or constant. [default: one-cycle]"),
    ("--milestones", str, "Epochs at which a piecewise rate falls, such as 100,150."),
    ("--gamma", float, "By what it is multiplied there. [default: 0.1]"),
    ("--warmup", float, "Epochs in which the rate rises from 0 (cosine, piecewise, constant)."),
    ("--momentum", float, "Of SGD; AdamW's first beta. [default: 0.9]"),
    ("--weight-decay", float, "Of weights; biases and norms have none. [default: 5e-4]"),
    ("--ema", float, "Decay of a running mean of the weights, such as 0.999, which is then kept. [default: none]"),
    ("--label-smoothing", float, "Share of a label that goes to all classes alike."),
    ("--augment", str, "A chain of shift, crop, flip, affine, jitter, randaugment, mixup, cutmix. [default: shift]"),
    ("--shift", int, "Pixels by which shift moves pictures at random. [default: 2]"),
    ("--clip-norm", float, "The longest gradient. [default: any]"),
    ("--accumulate", int, "Parts in which a batch is taken, where a whole one does not fit. [default: 1]"),
    ("--validation", int, "Training examples held out to tell the best epoch. [default: a tenth, at most 512]"),
    ("--patience", int, "Stop after so many epochs without a better one. [default: never]"),
)


def _recipe_options(command: Callable[..., None]) -> Callable[..., None]:
    for flag, kind, words in reversed(_RECIPE):
        command = click.option(flag, type=kind, default=None, help=words)(command)
    return command


@click.command(name="train", cls=Command)
@click.argument("file", required=False, metavar="[RECIPE.toml]", type=PathType())
@model_and_data
@click.option("--defense", metavar="TEXT", help="The objective, such as trades:beta=6+awp. [default: standard]")
@click.option("--eps", help="Radius of an adversarial objective, such as 8/255.")
@click.option("--norm", metavar="NAME", help="linf, l2 or l1, with --eps. [default: the objective's own]")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting of the objective.")
@click.option("--samples", type=int, help="Train on the first so many examples. [default: all]")
@click.option(
    "--held-out", metavar="NAME|PATH", help="Data to measure accuracy on. [default: the test split of --data]"
)
@_recipe_options
@click.option(
    "--bfloat16/--float32", default=None, help="Arithmetic of the passes; weights are float32. [default: bfloat16]"
)
@click.option(
    "--stop-on-alarm/--no-stop-on-alarm",
    default=None,
    help="Stop at the first sign of catastrophic overfitting, or go on.",
)
@click.option("--variant", help="Name under which the weights are found. [default: the defense]")
@click.option("--out", required=True, type=PathType(dir_okay=False), help="File to write.")
@click.option("--fresh", is_flag=True, help="Begin anew, where the same command would go on.")
@click.option(
    "--checkpoint-every", default=60.0, show_default=True, metavar="SECONDS", help="Besides each epoch's end."
)
@click.option("--track", multiple=True, metavar="NAME[:WHERE]", help="Tell a service: tensorboard:DIR, mlflow:URI, "
              "wandb:PROJECT; repeatable.")  # fmt: skip
@click.option("--quiet", is_flag=True, help="No progress.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    choice: ModelChoice,
    given: DataChoice,
    file: Path | None,
    defense: str | None,
    eps: str | None,
    norm: str | None,
    settings: tuple[str, ...],
    samples: int | None,
    held_out: str | None,
    variant: str | None,
    out: Path,
    fresh: bool,
    checkpoint_every: float,
    track: tuple[str, ...],
    quiet: bool,
    **recipe_flags: Any,
) -> None:
    """Train a backbone and write its weights as a .safetensors file that advkit attack reads.

    The same command again goes on where it was broken off, and ends at the same weights. Best and last weights, history and
    curves are kept in a folder beside --out. A recipe file gives what is not given by options.

    \b
    advkit train --model resnet --data signs --out resnet.safetensors
    advkit train --defense trades:beta=6+awp --eps 8/255 --out robust.safetensors
    advkit train recipes/cifar10-resnet18-pgd-at.toml --out cifar.safetensors
    torchrun --nproc-per-node 2 -m advkit train --out signs.safetensors
    """
    from advkit.engine.training import joined
    from advkit.results.lock import locked

    with joined(choice.device_name) as ranks, _one_voice(ranks):
        given_names = {
            name for name in ctx.params if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        }
        asked = _asked(
            ranks,
            given_names,
            choice,
            given,
            file,
            defense,
            eps,
            norm,
            settings,
            samples,
            held_out,
            variant,
            recipe_flags,
        )
        if out.suffix != ".safetensors":
            raise InputError(f"--out is {out}; weights are written as .safetensors, so give a name that ends so.")
        writable_folder(out.parent)
        screen = console(quiet or not ranks.first)
        if ranks.first:
            ctx.with_resource(locked(out.with_suffix(".training"), "training"))
        trackers = _trackers(track if ranks.first else ())
        training = _run(asked, ranks, screen, out, fresh, checkpoint_every, trackers, ctx.obj or [])
        if ranks.first:
            _report(asked, training, screen, out)
        ranks.wait()


@dataclass(frozen=True)
class _Asked:
    """A training that can begin."""

    net: Classifier
    data: Data
    test: Data
    is_held_out: bool
    objective: Objective
    recipe: Recipe
    text: str  # of the objective
    eps: str | None
    variant: str
    file: RecipeFile


def _asked(
    ranks: Ranks,
    given_names: set[str],
    choice: ModelChoice,
    given: DataChoice,
    file: Path | None,
    defense: str | None,
    eps: str | None,
    norm: str | None,
    settings: tuple[str, ...],
    samples: int | None,
    held_out: str | None,
    variant: str | None,
    flags: Mapping[str, Any],
) -> _Asked:
    """What the options and the recipe file ask for; options come first."""
    from advkit.catalog import DATASETS
    from advkit.engine.training.file import RecipeFile, aimed, read_recipe, recipe_of

    held = RecipeFile() if file is None else read_recipe(file)
    train = held.train
    choice = _chosen(choice, held, given_names, ranks)
    if "data" not in given_names and "data" in train:
        given = replace(given, name=train["data"])
    if held.data and "data" not in given_names:
        given = replace(given, settings=(*(f"{k}={v}" for k, v in held.data.items()), *given.settings))
    defense = defense or train.get("defense", "standard")
    eps = eps or (None if "eps" not in train else str(train["eps"]))
    samples = train.get("samples") if samples is None else samples
    held_out = held_out or train.get("held_out")
    values = pairs(settings, "--set")
    objective = aimed(defense, values, eps, norm or train.get("norm"))
    first, plus, others = defense.partition("+")
    more = ",".join(f"{key}={value}" for key, value in values.items())
    text = f"{first}{',' if ':' in first else ':'}{more}{plus}{others}" if more else defense
    wanted = {key: value for key, value in flags.items() if value is not None}
    recipe = recipe_of({**held.recipe, "seed": choice.seed, **wanted})

    splits = given.name in DATASETS and "split" in DATASETS[given.name].settings
    with _first_alone(ranks):  # one process downloads, the others find what it brought
        pictures = (replace(given, settings=(*given.settings, "split=train")) if splits else given).build(samples)
        test = (replace(given, name=held_out, settings=()) if held_out else given).build()
        net = (replace(choice, weights="random") if choice.weights == "auto" else choice).build(pictures)
    name = variant or train.get("variant") or "+".join(part.partition(":")[0] for part in defense.split("+"))
    return _Asked(net, pictures, test, bool(held_out) or splits, objective, recipe, text, eps, name, held)


def _chosen(choice: ModelChoice, held: RecipeFile, given_names: set[str], ranks: Ranks) -> ModelChoice:
    """The model of the options, else of the file; on this process's own GPU, if there are any."""
    train = held.train
    for option in ("model", "weights", "normalize"):
        if option not in given_names and option in train:
            choice = replace(choice, **{option: train[option]})
    if "model" not in given_names and "model" in train:
        settings = (*(f"{key}={value}" for key, value in held.model.items()), *choice.settings)
        choice = replace(choice, name=train["model"], settings=settings)
    if "seed" not in given_names and "seed" in held.recipe:
        choice = replace(choice, seed=held.recipe["seed"])
    if ranks.world > 1 and choice.device_name.startswith("cuda"):
        choice = replace(choice, device=f"cuda:{ranks.local}")
    return choice


def _run(
    asked: _Asked,
    ranks: Ranks,
    screen: Console,
    out: Path,
    fresh: bool,
    every: float,
    trackers: list[Any],
    words: list[str],
) -> Training:
    """Train, and tell of it."""
    from advkit.cli._training import TrainingView
    from advkit.engine.training import ball_of, train

    recipe, net = asked.recipe, asked.net
    folder = out.with_suffix(".training")
    together = f", {ranks.world} processes" if ranks.world > 1 else ""
    pictures = f"{asked.data.name} ({len(asked.data):,} examples{asked.data.remark})"
    screen.print(
        f"{net.name} on {pictures}, {asked.text}, {recipe.epochs} epochs, seed {recipe.seed}{together}",
        markup=False,
    )
    if asked.file.promised:
        screen.print(f"published: {asked.file.promised}", markup=False)
    ball = ball_of(asked.objective)
    told: dict[str, object] = {"command": " ".join(["advkit", *words]), "defense": asked.text, "threat": ball}
    for tracker in trackers:
        tracker.start(told | {key: value for key, value in recipe.settings().items() if value not in ("", None, [])})
    history: list[Epoch] = []
    with TrainingView(screen, recipe.epochs) as view:

        def begun(done: int, total: int, before: Sequence[Epoch]) -> None:
            history.extend(before)
            view.begun(done, total, before)

        def over(epoch: Epoch) -> None:
            history.append(epoch)
            if ranks.first:
                _write_history(folder, history)
            view.epoch(epoch)
            for tracker in trackers:
                tracker.epoch(epoch.number, {"loss": epoch.loss, "learning rate": epoch.learning_rate, **epoch.scores})

        try:
            return train(
                net, asked.data, asked.objective, recipe, over, folder=folder, fresh=fresh, checkpoint_every=every,
                on_step=view.step, on_begin=begun, ranks=ranks,
            )  # fmt: skip
        except KeyboardInterrupt:
            screen.print(f"Kept in {folder}; the same command goes on from there.", markup=False)
            raise
        finally:
            for tracker in trackers:
                tracker.close()


def _report(asked: _Asked, training: Training, screen: Console, out: Path) -> None:
    """Measure best and last weights on the test examples, write both and the curves, and say so."""
    from advkit.backbones import save_model
    from advkit.engine.evaluate import accuracy
    from advkit.engine.training import ball_of, robustness
    from advkit.engine.training.curves import draw_curves
    from advkit.engine.training.loop import put, state
    from advkit.results.statistics import share

    net, test, data = asked.net, asked.test, asked.data
    folder, epochs = out.with_suffix(".training"), len(training.history)
    ball = ball_of(asked.objective)
    few = test.head(_MEASURED)
    kind = "held-out" if asked.is_held_out else "(not held out) training"

    def measured() -> tuple[str, dict[str, str]]:
        clean = accuracy(net, test)
        said = f"accuracy without attack {clean.percent} % on {len(test):,} {kind} examples"
        facts = {"accuracy": f"{clean.value:.4f} [{clean.low:.4f}, {clean.high:.4f}] on {len(test)} examples"}
        if ball is not None:
            found = robustness(few, ball, seed=asked.recipe.seed, single=False)(net)["robust"]
            under = share(round(found * len(few)), len(few))
            said += f", under PGD-10 in {ball} {under.percent} % on {len(few):,}"
            facts["robust"] = (
                f"{under.value:.4f} [{under.low:.4f}, {under.high:.4f}] under PGD-10 in {ball}, {len(few)}"
            )
        return said, facts

    def keep(path: Path, epoch: int, facts: Mapping[str, str]) -> None:
        extra = {
            "data": data.name,
            "variant": asked.variant,
            "defense": asked.text,
            **({"eps": asked.eps} if asked.eps else {}),
            "epoch": f"{epoch} of {asked.recipe.epochs}",
            "recipe": f"{asked.objective!r} {asked.recipe!r} on {len(data)} examples of {data.name}",
            **facts,
        }
        channels, height, _ = data.shape
        save_model(path, net, backbone=net.name, classes=data.classes, channels=channels, size=height, extra=extra)

    best = training.best.number if training.best is not None else epochs
    kept = {name: tensor.clone() for name, tensor in state(net).items()}
    best_said, best_facts = measured()
    last_said, last_facts = best_said, best_facts
    if best != epochs:
        put(net, training.last)
        last_said, last_facts = measured()
    keep(folder / "last.safetensors", epochs, last_facts)
    put(net, kept)
    keep(out, best, best_facts)
    _write_history(folder, training.history)
    draw_curves(folder / "curves.png", training.history, f"{net.name} on {data.name}, {asked.text}")
    alarms = [epoch.number for epoch in training.history if epoch.alarm]
    if alarms:
        screen.print(
            f"ALARM after epoch {alarms[0]}: catastrophic overfitting. Accuracy under PGD fell by more than 20 points while "
            "that under one step did not; only the epochs before it can be trusted.",
            markup=False,
        )
    if training.stopped == "patience":
        screen.print(f"stopped after epoch {epochs}: no better one for {asked.recipe.patience} epochs", markup=False)
    if best != epochs:
        screen.print(f"best, of epoch {best}: {best_said}; written to {out}", markup=False)
        screen.print(f"last, of epoch {epochs}: {last_said}; written to {folder / 'last.safetensors'}", markup=False)
    else:
        chosen = "best and last" if training.best is not None else "last"
        screen.print(f"{chosen}, of epoch {epochs}: {best_said}; written to {out}", markup=False)
    screen.print(f"curves in {folder / 'curves.png'}", markup=False)


def _write_history(folder: Path, history: Sequence[Epoch]) -> None:
    from advkit.atomic import put_whole

    put_whole(folder / "history.json", json.dumps([epoch.to_json() for epoch in history], indent=1).encode())


def _trackers(texts: tuple[str, ...]) -> list[Any]:
    if not texts:
        return []
    from advkit.engine.tracking import build_tracker

    return [build_tracker(text) for text in texts]


@contextmanager
def _first_alone(ranks: Ranks) -> Iterator[None]:
    """The first process does it first, the others afterwards."""
    if not ranks.first:
        ranks.wait()
    yield
    if ranks.first:
        ranks.wait()


_PATIENCE = 20.0  # seconds: a busy machine may start them far apart


@contextmanager
def _one_voice(ranks: Ranks) -> Iterator[None]:
    """Of several processes that fail for one reason, or are warned of one thing, the first says it."""
    try:
        with warnings.catch_warnings():
            if not ranks.first:
                warnings.simplefilter("ignore")
            yield
    except (AdvkitError, KeyboardInterrupt) as error:
        if ranks.first:
            raise
        if isinstance(error, AdvkitError):
            # Where the first process fails too, it says so, and torchrun ends this one before it has waited long enough.
            time.sleep(_PATIENCE)
            click.echo(f"Error: process {ranks.rank}: {error}", err=True)
        sys.exit(exit_code() if isinstance(error, KeyboardInterrupt) else 2 if isinstance(error, InputError) else 1)
