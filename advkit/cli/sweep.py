"""advkit sweep."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from advkit.cli._command import Command, PathType, refuse_idle
from advkit.cli._results import form_of, put, put_doubts, put_pivot
from advkit.cli._shared import DataChoice, ModelChoice, console, models_and_data, pairs
from advkit.cli._signals import exit_code
from advkit.cli._wanted import save_study, wanted_by_file, wanted_by_flags
from advkit.errors import InputError
from advkit.private import kept_words

if TYPE_CHECKING:
    from advkit.engine.sweep import Plan, Result
    from advkit.engine.tasks import Executor
    from advkit.results.grid import Grid


@click.command(name="sweep", cls=Command)
@click.argument("study", required=False, metavar="[STUDY.toml]", type=PathType())
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
@click.option("--out", type=PathType(), metavar="DIR", help="The store of the results. [default: the study's "
              "name, or sweep]")  # fmt: skip
@click.option(
    "--resume/--no-resume", default=True, help="Keep what DIR holds already, or compute it again. [default: resume]"
)
@click.option("--dry-run", is_flag=True, help="Show the plan: cells, passes and time; keep nothing.")
@click.option("--save-study", type=PathType(), metavar="FILE", help="Also write what is asked for as a study "
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
    if given["dry_run"]:
        refuse_idle(context, "with --dry-run, which computes nothing", "track")
    executor = _executor(given)
    wanted = wanted_by_file(context, study, models[0].trust) if study else wanted_by_flags(models, pictures_of, given)
    out = given["out"] or Path(study.stem if study else "sweep")
    command_line = shlex.join(["advkit", *context.find_root().obj])
    text = write_study(wanted)
    wanted = replace(wanted, command=command_line, about={**wanted.about, "study": kept_words(text)})
    trackers = _trackers(given["track"])
    Store(out).admit()
    if given["save_study"] is not None:
        save_study(text, given["save_study"])
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
        show_plan(plan, out, executor, kind, afresh=not given["resume"])
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
    except KeyboardInterrupt:
        click.echo(f"Interrupted. What was finished is in {out}; go on with: {command_line}", err=True)
        sys.exit(exit_code())

    # Render
    _print(result.grid, kind)
    screen.print(f"results in {out}: advkit table {out}, advkit report {out}", markup=False)
    if result.failed:
        _mourn(result)


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
        store.remove(*(planned.cell for planned in plan.cells))


def _print(grid: Grid, kind: str) -> None:
    from advkit.results.pivot import pivoted

    if kind == "json":
        put(json.dumps(grid.to_json()), None)
    elif grid.lines or grid.clean:
        put_pivot(pivoted(grid), grid, kind, None)
        put_doubts(grid, kind, None)


def _mourn(result: Result) -> None:
    """Say what failed; exit 2 where all of it is the input's fault, else 1."""
    said = dict.fromkeys(f"{report.task.title}: {report.error}" for report in result.failed)
    for text in said:
        click.echo(f"Error: {text}", err=True)
    count = len(result.failed)
    click.echo(f"{count} {'task' if count == 1 else 'tasks'} failed; the same command tries again.", err=True)
    sys.exit(2 if all(report.expected for report in result.failed) else 1)
