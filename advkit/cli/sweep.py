"""advkit sweep."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from advkit.cli._attacks import attack_specs, named
from advkit.cli._results import form_of, put, put_pivot
from advkit.cli._shared import DataChoice, ModelChoice, checked_device, console, models_and_data, pairs
from advkit.cli._signals import code_of
from advkit.errors import InputError

if TYPE_CHECKING:
    from advkit.engine.defend import Against
    from advkit.engine.sweep import Plan, Result, Sweep
    from advkit.engine.tasks import Executor
    from advkit.results.grid import Grid

_SAMPLES = 200
_RUN = ("study", "out", "on", "workers", "on_settings", "ray_address", "track", "dry_run", "save_study", "resume", "form",
        "quiet")  # fmt: skip
"""What says how a sweep is run; everything else says what is evaluated, and belongs into the study file where there is one."""


@click.command(name="sweep")
@click.argument("study", required=False, metavar="[STUDY.toml]", type=click.Path(path_type=Path))
@models_and_data
@click.option("--attack", "attacks", multiple=True, metavar="NAME", help="An attack (advkit list attacks); repeatable. "
              "[default: standard; with --steps, --step-size, --restarts or --set: worst-case, which is PGD]")  # fmt: skip
@click.option("--defense", "defenses", multiple=True, metavar="NAME", help="What stands in front of each model: none, jpeg, "
              "jpeg:75, a chain jpeg:75+bits:4; repeatable. [default: none]")  # fmt: skip
@click.option("--norm", "norms", multiple=True, metavar="NAME", help="linf, l2, l1, l0, area, shade or veil. "
              "[default: linf where the attacks work in it]")  # fmt: skip
@click.option("--eps", multiple=True, metavar="RADIUS", help="8/255, 8px, 5%, 0.031, or several with commas; repeatable. "
              "[default: that of the attacks; 8/255 in linf, 0.5 in l2, 12 in l1, 10 pixels in l0, 5% in area]")  # fmt: skip
@click.option("--steps", type=int, help="Steps of iterative attacks.")
@click.option("--step-size", type=float, help="Length of a step as a fraction of eps.")
@click.option("--restarts", type=int, help="Independent runs per example; the worst counts.")
@click.option("--loss", metavar="NAME", help="What is ascended (advkit list losses).")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any other setting of the attacks.")
@click.option("--target", metavar="RULE|CLASS", help="Aim at a class: next, random, least-likely, a name or number.")
@click.option(
    "--independent", is_flag=True, help="Attack at every radius afresh, instead of one search for the smallest."
)
@click.option("--transfer", is_flag=True, help="Also show each model the adversarial pictures made on each other one.")
@click.option("--surrogate", "surrogates", multiple=True, metavar="NAME[@WEIGHTS]", help="Make the attacks on this model, and "
              "show what each comes to to every --model once; repeatable.")  # fmt: skip
@click.option("--oblivious", is_flag=True, help="Of each defense show only what was made on the model "
              "without it and is replayed. [default: that and attacks on the defended model]")  # fmt: skip
@click.option("--adaptive", is_flag=True, help="Show only attacks on the defended model.")
@click.option("--samples", metavar="NUMBER|all", help="Evaluate the first so many examples, or all. [default: 200]")
@click.option("--exclude", multiple=True, metavar="CLASS", help="Leave out the examples of a class; repeatable.")
@click.option("--batch-size", type=int, help="Examples per pass; halved where memory runs out. [default: by size]")
@click.option(
    "--precision", default="auto", show_default=True, help="What steers the search: auto, float32, folded, mixed."
)
@click.option(
    "--shard", type=click.IntRange(1), help="Examples of a task: what a lost worker costs. [default: 128 or the batch]"
)
@click.option("--pictures", type=click.IntRange(0), default=16, show_default=True, help="Keep the adversarial pictures of the "
              "first so many examples, for the report.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="The store of the results. [default: the study's "
              "name, or sweep]")  # fmt: skip
@click.option(
    "--resume/--no-resume", default=True, help="Keep what DIR holds already, or compute it again. [default: resume]"
)
@click.option("--dry-run", is_flag=True, help="Show the plan: cells, passes and time; keep nothing.")
@click.option("--save-study", type=click.Path(path_type=Path), metavar="FILE", help="Also write what is asked for as a study "
              "file, from which the same cells are made.")  # fmt: skip
@click.option("--on", metavar="NAME", help="Where the work is done: local, processes, ray, slurm. [default: local; processes "
              "with --workers]")  # fmt: skip
@click.option("--workers", type=click.IntRange(1), help="Processes that work side by side.")
@click.option("--on-set", "on_settings", multiple=True, metavar="KEY=VALUE", help="A setting of --on (advkit list executors "
              "--settings).")  # fmt: skip
@click.option("--ray-address", metavar="ADDRESS", help="The Ray cluster to use. [default: one on this machine]")
@click.option("--track", multiple=True, metavar="NAME[:WHERE]", help="Tell a service: tensorboard:DIR, mlflow:URI, "
              "wandb:PROJECT; repeatable.")  # fmt: skip
@click.option("--format", "form", metavar="NAME", help="table, markdown, csv, json, latex or html. [default: table]")
@click.option("--quiet", is_flag=True, help="No progress and no header.")
@click.pass_context
def command(
    context: click.Context,
    /,
    models: tuple[ModelChoice, ...],
    pictures_of: DataChoice,
    study: Path | None,
    **given: Any,
) -> None:
    """Evaluate models x defenses x attacks x radii and print one robustness table. Interrupt it, kill it, run it again: what is
    finished is kept in DIR and not computed twice.

    \b
    advkit sweep --model resnet --model lenet --attack fgsm --attack pgd --eps 2/255,4/255,8/255 --out runs/first
    advkit sweep study.toml --workers 2
    advkit sweep --model resnet@standard --model resnet@adversarial --defense none --defense jpeg:75 --dry-run
    advkit table runs/first; advkit report runs/first
    """
    from rich.text import Text

    from advkit.cli._plan import header, show_plan
    from advkit.engine.memory import keep_freed_memory
    from advkit.engine.study import write_study
    from advkit.engine.sweep import Spectator, make_plan, run_plan
    from advkit.results.store import Store

    # Parse
    kind = form_of(given["form"], None)
    executor = _executor(given)
    wanted = _from_file(context, study) if study else _from_flags(models, pictures_of, given)
    out = given["out"] or Path(study.stem if study else "sweep")
    command_line = shlex.join(["advkit", *context.find_root().obj])
    text = write_study(wanted)
    wanted = replace(wanted, command=command_line, about={**wanted.about, "study": text})
    trackers = _trackers(given["track"])
    Store(out).admit()
    if given["save_study"] is not None:
        _save(text, given["save_study"])
    screen = console(given["quiet"])
    keep_freed_memory()

    # Build
    with screen.status("looking at the models") as status:
        # A text and no string: brackets in a path are no markup.
        plan = make_plan(
            wanted,
            lambda text: status.update(Text(f"looking at {text}")),
            tried=given["dry_run"],
            threads=_threads(executor, wanted.device),
        )
    header(screen, plan, out, executor)
    if given["dry_run"]:
        show_plan(plan, out, executor, kind)
        return
    if not given["resume"]:
        _forget(plan, out)

    # Run
    from advkit.cli._live import LiveView
    from advkit.engine.forecast import Forecast

    view = LiveView(screen, Forecast(), executor.at_once(wanted.device))
    try:
        with view:
            spectator = Spectator(watch=view.watch, begun=view.begun, report=view.report, lines=view.lines)
            result = run_plan(plan, out, executor=executor, spectator=spectator, trackers=trackers)
    except KeyboardInterrupt as error:
        click.echo(f"Interrupted. What was finished is in {out}; go on with: {command_line}", err=True)
        sys.exit(code_of(error))

    # Render
    _print(result.grid, kind)
    screen.print(f"results in {out}: advkit table {out}, advkit report {out}", markup=False)
    if result.failed:
        _mourn(result)


def _from_file(context: click.Context, study: Path) -> Sweep:
    """The study of a file; flags that say what is evaluated would contradict it."""
    from advkit.engine.study import read_study

    for parameter in context.command.params:
        name = parameter.name or ""
        if name not in (*_RUN, "device") and context.get_parameter_source(name) == ParameterSource.COMMANDLINE:
            flag = parameter.opts[0]
            raise InputError(
                f"{flag} says what to evaluate, and so does {study}; write it there, or leave the file out."
            )
    wanted = read_study(study)
    return replace(wanted, device=checked_device(context.params["device"] or wanted.device))


def _from_flags(models: tuple[ModelChoice, ...], pictures_of: DataChoice, given: dict[str, Any]) -> Sweep:
    from advkit.engine.defend import read_defense
    from advkit.engine.precision import checked_precision
    from advkit.engine.sweep import Sweep

    flags = {name: given[name] for name in ("steps", "step_size", "restarts", "loss")}
    attacks = named(given["attacks"], flags, given["settings"])
    norms = tuple(dict.fromkeys(given["norms"])) or (None,)
    if len(norms) > 1:
        raise InputError(
            f"--norm is given as {' and '.join(map(str, norms))}; a sweep is in one norm, so run them apart."
        )
    norm, radii, specs = attack_specs(attacks, norms[0], given["eps"], flags, given["settings"])
    defenses = given["defenses"] or ("none",)
    for text in defenses:
        read_defense(text)
    if given["batch_size"] is not None and given["batch_size"] < 1:
        raise InputError(f"--batch-size is {given['batch_size']}; give 1 or more, or leave it out to have it chosen.")
    against = _against(given["oblivious"], given["adaptive"], defenses)
    first = models[0] if models else ModelChoice("resnet", "auto", None, (), None, 0, "resnet")
    return Sweep(
        models=tuple(choice.spec() for choice in models or (first,)),
        attacks=specs,
        radii=radii,
        data=pictures_of.spec(given["exclude"]),
        norm=norm,
        defenses=defenses,
        samples=_samples(given["samples"]),
        goal=given["target"] or "untargeted",
        seed=first.seed,
        independent=given["independent"],
        transfer=given["transfer"],
        against=against,
        surrogates=tuple(first.another(name).spec() for name in given["surrogates"]),
        precision=checked_precision(given["precision"]),
        shard=given["shard"],
        batch_size=given["batch_size"],
        device=first.device_name,
        keep_pictures=given["pictures"],
    )


def _samples(text: str | None) -> int | None:
    """How many examples; None for all."""
    if text is None or text == "all":
        return _SAMPLES if text is None else None
    if not text.removeprefix("-").isdecimal():
        raise InputError(f"--samples is {text!r}; give a whole number of 1 or more, or all.")
    return int(text)


def _against(oblivious: bool, adaptive: bool, defenses: Sequence[str]) -> Against:
    """What a defense is attacked by."""
    if oblivious and adaptive:
        raise InputError(
            "--oblivious and --adaptive each leave the other out; give one of them, or neither to show both."
        )
    if oblivious and all(text == "none" for text in defenses):
        raise InputError("--oblivious says what a defense is attacked by, and there is none; give --defense.")
    return "oblivious" if oblivious else "adaptive" if adaptive else "both"


def _save(text: str, path: Path) -> None:
    """A study file of what the flags ask for."""
    from advkit.atomic import put_whole

    if path.suffix != ".toml":
        raise InputError(f"--save-study is {path}; a study is written as TOML, so give a name that ends in .toml.")
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise InputError(f"--save-study: {path} exists and holds something else; give another name, or remove it.")
    put_whole(path, text.encode())


def _executor(given: dict[str, Any]) -> Executor:
    """Where the work is done."""
    from advkit.catalog import EXECUTORS

    name = given["on"] or ("ray" if given["ray_address"] else "processes" if given["workers"] else "local")
    entry = EXECUTORS[name]
    settings: dict[str, Any] = dict(pairs(given["on_settings"], "--on-set"))
    for key, value in (("workers", given["workers"]), ("address", given["ray_address"])):
        if value is not None:
            flag = "--ray-address" if key == "address" else "--workers"
            if key not in entry.settings:
                raise InputError(
                    f"{flag} reaches nothing: {name} has no setting of this kind. Choose another with --on."
                )
            if key in settings:
                raise InputError(f"{key} is given twice, by {flag} and with --on-set; give it once.")
            settings[key] = value
    return entry.create(**settings)


def _threads(executor: Executor, device: str) -> int | None:
    """Of each of several workers on this machine: what a pass is timed with."""
    import torch

    workers = executor.at_once(device)
    return max(1, torch.get_num_threads() // workers) if workers > 1 and device == "cpu" else None


def _trackers(texts: tuple[str, ...]) -> list[Any]:
    if not texts:
        return []
    from advkit.engine.tracking import build_tracker

    return [build_tracker(text) for text in texts]


def _forget(plan: Plan, out: Path) -> None:
    """Remove the plan's own cells from the store."""
    from advkit.results.store import Store

    store = Store(out)
    if not (out / "store.json").exists():
        return
    with store.check().lock():
        for planned in plan.cells:
            store.remove(planned.cell)


def _print(grid: Grid, kind: str) -> None:
    from advkit.results.pivot import pivoted

    if kind == "json":
        put(json.dumps(grid.to_json()), None)
    elif grid.lines or grid.clean:
        put_pivot(pivoted(grid), grid, kind, None)


def _mourn(result: Result) -> None:
    """Say what failed; exit 2 where all of it is the input's fault, else 1."""
    said = dict.fromkeys(f"{report.task.title}: {report.error}" for report in result.failed)
    for text in said:
        click.echo(f"Error: {text}", err=True)
    count = len(result.failed)
    click.echo(f"{count} {'task' if count == 1 else 'tasks'} failed; the same command tries again.", err=True)
    sys.exit(2 if all(report.expected for report in result.failed) else 1)
