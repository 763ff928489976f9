"""The live view of a sweep: bars and rows on a terminal, lines of text elsewhere."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import trained
from rich.console import Console

from advkit.cli._live import LiveView
from advkit.data import TensorData
from advkit.engine.forecast import Forecast
from advkit.engine.specs import AttackSpec, DataSpec, ModelSpec
from advkit.engine.sweep import Plan, Spectator, Sweep, make_plan, run_plan
from advkit.engine.tasks import Report, Task


@pytest.fixture
def plan() -> Plan:
    import copy

    model, x, y = trained()
    return make_plan(
        Sweep(
            models=(ModelSpec("net[a]", made=copy.deepcopy(model).float()),),
            attacks=(AttackSpec("fgsm"), AttackSpec("pgd", (("steps", 2),))),
            radii=("0.01", "0.03"),
            data=DataSpec("patterns", made=TensorData(x.float(), y, name="patterns")),
            defenses=("none", "bits:3"),
            samples=12,
            shard=4,
            batch_size=4,
        )
    )


def screen(*, terminal: bool, quiet: bool = False) -> tuple[Console, io.StringIO]:
    written = io.StringIO()
    return Console(file=written, force_terminal=terminal, width=120, height=60, quiet=quiet, highlight=False), written


def look(view: LiveView, width: int = 120) -> str:
    """What stands on the screen now."""
    written = io.StringIO()
    Console(file=written, force_terminal=False, width=width, highlight=False).print(view._drawn())
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines()) + "\n"


def watched(view: LiveView, plan: Plan, out: Path, seen: list[str]) -> None:
    def report(report: Report) -> None:
        view.report(report)
        seen.append(look(view))

    with view:
        run_plan(plan, out, spectator=Spectator(view.watch, view.begun, report, view.lines))


def test_on_a_terminal_there_are_bars_and_rows_that_fill_in(plan: Plan, tmp_path: Path) -> None:
    on, written = screen(terminal=True)
    view, seen = LiveView(on, Forecast()), []
    watched(view, plan, tmp_path, seen)
    tasks = 3 * (1 + 2 + 1 + (1 + 2 + 1 + 2 + 2))  # behind the defense also what is replayed, at each radius
    assert len(seen) == tasks
    assert all("sweep" in at and "of 12 cells" in at for at in seen)
    assert "net[a]" in seen[-1], "a name is no markup"
    counts = [at.count("\nnet[a]") for at in seen]
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] > 3
    assert view.finished == (1 + 2 + 2) + (1 + 2 + 2 + 2 + 2)
    assert "almost done, 100 %, 12 of 12 cells" in look(view)
    assert "\x1b[" in written.getvalue()


def test_a_cell_that_is_half_done_has_a_bar_and_says_where_it_is(plan: Plan) -> None:
    view = LiveView(screen(terminal=True)[0], Forecast())
    left = [task for task in left_of(plan) if (task.cell.attack, task.cell.defense) == ("pgd", "none")]
    view.begun(plan, left)
    assert "pgd on net[a]" not in look(view)
    with view.watch(left[0], "pgd") as told:
        told(1, 4)
        assert "pgd on net[a]" in look(view)
        assert "0 of 3, pgd 25 %" in look(view)
    for done in (1, 2):
        view.report(Report(left[done - 1], 1.0))
        assert f"{done} of 3" in look(view)
        assert view.forecast.share == pytest.approx(done / 3, abs=0.05)
        assert "pgd on net[a]" in look(view)
    view.report(Report(left[2], 1.0))
    assert "100 %" in look(view)
    assert "pgd on net[a]" not in look(view), "what is done makes room"


@pytest.mark.parametrize(("width", "height"), [(40, 10), (80, 24), (140, 50)])
def test_it_fits_the_screen_however_much_there_is_to_say(plan: Plan, tmp_path: Path, width: int, height: int) -> None:
    on = Console(file=io.StringIO(), force_terminal=True, width=width, height=height)
    view = LiveView(on, Forecast())
    run_plan(plan, tmp_path, spectator=Spectator(lines=lambda lines: [view.lines(lines) for _ in range(9)] and None))
    left = left_of(plan)
    view.begun(plan, left)
    for task in left:
        with view.watch(task, "a stage with a very long name, as may be") as told:
            told(1, 2)
    shown = look(view, width).splitlines()
    assert len(shown) < height
    assert max(map(len, shown)) <= width
    assert len(shown[-1]) <= width - 4, "what the terminal echoes has room"
    assert any(line.startswith("sweep") and "of 12 cells" in line for line in shown) or width < 60
    assert any("rows above" in line for line in shown)
    assert any("more cells begun" in line for line in shown)


def test_it_can_be_drawn_while_it_is_told(plan: Plan) -> None:
    view, over, wrong = LiveView(screen(terminal=True)[0], Forecast()), threading.Event(), []

    def draw() -> None:
        while not over.is_set():
            try:
                look(view)
            except Exception as error:
                wrong.append(error)

    thread = threading.Thread(target=draw)
    thread.start()
    left = left_of(plan)
    for _ in range(20):
        view.begun(plan, left)
        for task in left:
            with view.watch(task, "s") as told:
                told(1, 2)
            view.report(Report(task, 0.1))
    over.set()
    thread.join()
    assert not wrong, wrong[0]


def left_of(plan: Plan) -> list[Task]:
    return [replace(cell.task, span=(at, at + 4)) for cell in plan.cells for at in (0, 4, 8)]


def test_more_rows_than_there_is_room_for_are_counted(plan: Plan, tmp_path: Path) -> None:
    view = LiveView(Console(file=io.StringIO(), force_terminal=True, width=120, height=21), Forecast())
    with view:
        run_plan(
            plan, tmp_path, spectator=Spectator(lines=lambda lines: [view.lines(lines) for _ in range(3)] and None)
        )
    assert view.finished == 3 * 14
    assert "... 26 rows above" in look(view)
    assert look(view).count("\nnet[a]") == 16


def test_of_an_ensemble_there_is_one_row_for_each_radius_under_its_own_name(plan: Plan, tmp_path: Path) -> None:
    wanted = replace(plan.sweep, attacks=(AttackSpec("worst-case", (("steps", 2),)),), defenses=("none",))
    on, written = screen(terminal=False)
    view = LiveView(on, Forecast())
    with view:
        run_plan(make_plan(wanted), tmp_path, spectator=Spectator(view.watch, view.begun, view.report, view.lines))
    rows = [line.split()[2:4] for line in written.getvalue().splitlines()]
    assert rows == [["none", "-"], ["worst-case", "0.01"], ["worst-case", "0.03"]]


@pytest.mark.parametrize("quiet", [False, True])
def test_elsewhere_each_row_is_a_line_of_text_and_quiet_is_nothing(plan: Plan, tmp_path: Path, quiet: bool) -> None:
    on, written = screen(terminal=False, quiet=quiet)
    seen: list[str] = []
    watched(LiveView(on, Forecast()), plan, tmp_path, seen)
    lines = written.getvalue().splitlines()
    assert "\x1b" not in written.getvalue()
    assert len(lines) == (0 if quiet else 14)
    assert quiet or lines[0].startswith("net[a] none none - ")
    assert quiet or any(line.startswith("net[a] bits:3 pgd 0.03 ") for line in lines)


def test_quiet_on_a_terminal_is_nothing_too(plan: Plan, tmp_path: Path) -> None:
    on, written = screen(terminal=True, quiet=True)
    watched(LiveView(on, Forecast()), plan, tmp_path, [])
    assert written.getvalue() == ""


def test_a_task_that_failed_is_said_by_its_last_line(plan: Plan) -> None:
    on, written = screen(terminal=False)
    view = LiveView(on, Forecast())
    left: Sequence[Task] = left_of(plan)
    view.begun(plan, left)
    view.report(Report(left[0], error="Traceback ...\n  File x\nTypeError: a [slip]\n"))
    assert written.getvalue() == "failed: none on net[a]: TypeError: a [slip]\n"


def test_a_cell_of_which_a_task_failed_does_not_count_as_complete(plan: Plan) -> None:
    view = LiveView(screen(terminal=True, quiet=True)[0], Forecast())
    left = left_of(plan)
    view.begun(plan, left)
    for number, task in enumerate(left):
        view.report(Report(task, error="broken" if number == 0 else None))
    assert "100 %, 11 of 12 cells" in look(view)


def test_a_sweep_with_nothing_left_is_done(plan: Plan) -> None:
    view = LiveView(screen(terminal=True)[0], Forecast())
    view.begun(plan, [])
    assert "100 %, 12 of 12 cells" in look(view)
