"""advkit sweep."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from advkit.cli._attacks import attack_specs, named
from advkit.cli._results import form_of, put, put_pivot, put_table
from advkit.cli._shared import DataChoice, ModelChoice, checked_device, console, models_and_data, pairs
from advkit.errors import InputError

if TYPE_CHECKING:
    from advkit.engine.sweep import Plan, Result, Sweep
    from advkit.engine.tasks import Executor
    from advkit.results.grid import Grid

_SAMPLES = 200
_RUN = ("study", "out", "on", "workers", "on_settings", "ray_address", "track", "dry_run", "resume", "form", "quiet")
"""What says how a sweep is run; everything else says what is evaluated, and belongs into the study file where there is one."""


@click.command(name="sweep")
@click.argument("study", required=False, metavar="[STUDY.toml]", type=click.Path(path_type=Path))
@models_and_data
@click.option("--attack", "attacks", multiple=True, metavar="NAME", help="An attack (advkit list attacks); repeatable. "
              "[default: standard; with --steps, --step-size, --restarts or --set: worst-case, which is PGD]")  # fmt: skip
@click.option("--defense", "defenses", multiple=True, metavar="NAME", help="What stands in front of each model: none, jpeg, "
              "jpeg:75, a chain jpeg:75+bits:4; repeatable. [default: none]")  # fmt: skip
@click.option("--norm", metavar="NAME", help="linf, l2, l1, l0, area, shade or veil. "
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
@click.option("--oblivious", "against", flag_value="oblivious", help="Of each defense show only what was made on the model "
              "without it and is replayed. [default: that and attacks on the defended model]")  # fmt: skip
@click.option("--adaptive", "against", flag_value="adaptive", help="Show only attacks on the defended model.")
@click.option("--samples", type=int, help="Evaluate the first so many examples. [default: 200]")
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
@click.option("--dry-run", is_flag=True, help="Show the plan: cells, passes and time; compute nothing.")
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
    wanted = replace(wanted, command=command_line, about={**wanted.about, "study": write_study(wanted)})
    trackers = _trackers(given["track"])
    Store(out).admit()
    screen = console(given["quiet"])
    keep_freed_memory()

    # Build
    with screen.status("looking at the models") as status:
        # A text and no string: brackets in a path are no markup.
        plan = make_plan(wanted, lambda text: status.update(Text(f"looking at {text}")))
    if given["dry_run"]:
        _show_plan(plan, out, executor, kind)
        return
    if not given["resume"]:
        _forget(plan, out)

    # Run
    from advkit.cli._live import LiveView

    view = LiveView(screen)
    _header(screen, plan, out, executor)
    try:
        with view:
            spectator = Spectator(watch=view.watch, begun=view.begun, report=view.report, lines=view.lines)
            result = run_plan(plan, out, executor=executor, spectator=spectator, trackers=trackers)
    except KeyboardInterrupt:
        click.echo(f"Interrupted. What was finished is in {out}; go on with: {command_line}", err=True)
        sys.exit(130)

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
    norm, radii, specs = attack_specs(attacks, given["norm"], given["eps"], flags, given["settings"])
    defenses = given["defenses"] or ("none",)
    for text in defenses:
        read_defense(text)
    if given["batch_size"] is not None and given["batch_size"] < 1:
        raise InputError(f"--batch-size is {given['batch_size']}; give 1 or more, or leave it out to have it chosen.")
    first = models[0] if models else ModelChoice("resnet", "auto", None, (), None, 0, "resnet")
    return Sweep(
        models=tuple(choice.spec() for choice in models or (first,)),
        attacks=specs,
        radii=radii,
        data=pictures_of.spec(given["exclude"]),
        norm=norm,
        defenses=defenses,
        samples=_SAMPLES if given["samples"] is None else given["samples"],
        goal=given["target"] or "untargeted",
        seed=first.seed,
        independent=given["independent"],
        transfer=given["transfer"],
        against=given["against"] or "both",
        surrogates=tuple(first.another(name).spec() for name in given["surrogates"]),
        precision=checked_precision(given["precision"]),
        shard=given["shard"],
        batch_size=given["batch_size"],
        device=first.device_name,
        keep_pictures=given["pictures"],
    )


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
            settings[key] = value
    return entry.create(**settings)


def _trackers(texts: tuple[str, ...]) -> list[Any]:
    if not texts:
        return []
    from advkit.engine.tracking import build_tracker

    return [build_tracker(text) for text in texts]


def _header(screen: Any, plan: Plan, out: Path, executor: Executor) -> None:
    wanted = plan.sweep
    lines = sum(len(planned.cell.stages) * len(planned.cell.radii) for planned in plan.cells)
    screen.print(f"data   {wanted.data.name}, {plan.samples:,} examples", markup=False)
    screen.print(f"threat {wanted.norm} at {', '.join(wanted.radii)}", markup=False)
    screen.print(f"plan   {lines} rows of {len(plan.cells)} cells, kept in {out}", markup=False)
    screen.print(f"on     {executor}, {wanted.device}, seed {wanted.seed}", markup=False)
    from advkit.engine.specs import usual_ball

    ball = usual_ball(wanted.norm)
    for doubt in dict.fromkeys(ball(radius).doubt for radius in wanted.radii):
        if doubt:
            screen.print(f"note   {doubt}", markup=False)


def _show_plan(plan: Plan, out: Path, executor: Executor, kind: str) -> None:
    """The cells, what is done of them, and what they may cost."""
    from advkit.results.store import Store
    from advkit.results.table import Table

    store, share = Store(out), max(1, executor.at_once(plan.sweep.device))
    left = {
        planned.cell.key: sum(b - a for a, b in store.missing(planned.cell, plan.samples)) for planned in plan.cells
    }
    costs = [(planned, left[planned.cell.key] / plan.samples) for planned in plan.cells]
    seconds = sum(planned.seconds * part for planned, part in costs) / share
    if kind == "json":
        found = [
            {
                "model": planned.cell.model,
                "defense": planned.cell.defense,
                "attack": planned.cell.attack,
                "eps": list(planned.cell.radii),
                "done": plan.samples - left[planned.cell.key],
                "n": plan.samples,
                "passes": round(planned.passes * part),
                "seconds": round(planned.seconds * part, 1),
            }
            for planned, part in costs
        ]
        put(json.dumps({"plan": found, "workers": share, "seconds": round(seconds, 1)}), None)
        return
    rows = [
        (
            planned.cell.model,
            planned.cell.defense,
            planned.cell.attack,
            " ".join(planned.cell.radii) or "-",
            f"{plan.samples - left[planned.cell.key]} of {plan.samples}",
            f"{round(planned.passes * part):,}",
            _time(planned.seconds * part),
        )
        for planned, part in costs
    ]
    total = f"{round(sum(planned.passes * part for planned, part in costs)):,}"
    rows.append(("in all", "", "", "", "", total, _time(seconds)))
    heads = ("model", "defense", "attack", "eps", "done", "passes, about", "time, about")
    caption = (
        "passes: forward and backward of one example each, if none is beaten early where it ends; time: by a pass timed now, "
        f"{'one worker' if share == 1 else f'{share} workers'}. Nothing was computed."
    )
    table = Table(heads, tuple(rows), "llllrrr", strong=(len(rows) - 1,), caption=caption)
    put_table(table, kind, 4, None)


def _time(seconds: float) -> str:
    """As a reader wants it: 40 s, 3 min, 2.5 h."""
    if seconds < 99:
        return f"{seconds:.0f} s" if seconds >= 1 else "< 1 s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


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
