"""``advkit sweep``: what it prints, what it keeps, that every flag reaches what it names, and how it is stopped and resumed."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import Answer, Run

from advkit.data import load_data
from advkit.engine import sweep as sweeps
from advkit.engine import tasks

ROW = ["attack", "eps", "accuracy", "low", "high", "success", "median_distance", "forwards", "backwards", "seconds"]
SMALL = ("sweep", "--model", "lenet", "--attack", "fgsm", "--eps", "4/255,8/255", "--samples", 4)
FULL = (
    *("sweep", "--model", "resnet", "--model", "lenet", "--attack", "fgsm", "--attack", "pgd"),
    *("--eps", "2/255,4/255,8/255", "--samples", 4, "--steps", 4),
)
Refused = Callable[..., str]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "store"


def shards(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.glob("cells/*/*.safetensors")}


def one_sentence(answer: Answer) -> str:
    assert answer.code == 2, answer
    assert answer.out == ""
    assert answer.err.count("\n") == 1, answer.err
    assert answer.err.startswith("Error: ")
    assert answer.err.endswith(".\n")
    return answer.err.strip()


# ---------------------------------------------------------------------- what is printed and kept


def test_two_models_two_attacks_and_three_radii_are_twelve_rows_that_the_store_gives_back(run: Run, out: Path) -> None:
    first = run(*FULL, "--out", out, "--format", "json")
    assert first.code == 0
    assert first.out.count("\n") == 1
    cells = first.json["cells"]
    assert [(row["model"], row["attack"], row["eps"]) for row in cells] == [
        (model, attack, eps)
        for model in ("resnet", "lenet")
        for attack in ("fgsm", "pgd")
        for eps in ("2/255", "4/255", "8/255")
    ]
    for row in cells:
        assert set(row) >= {*ROW, "model", "defense", "data"}
        assert (row["defense"], row["data"], row["n"], row["complete"]) == ("none", "signs", 4, True)
        assert 0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1
        assert row["accuracy"] <= row["clean"]
    assert len({row["accuracy"] for row in cells}) > 2
    assert run("table", out, "--format", "json").json == first.json
    # A second time nothing is computed, and the same bytes are printed.
    before = shards(out)
    again = run(*FULL, "--out", out, "--format", "json")
    assert again.out == first.out
    assert shards(out) == before


def test_the_rows_of_a_sweep_are_those_of_advkit_attack(run: Run, out: Path) -> None:
    one = run(
        *("attack", "--model", "lenet", "--attack", "fgsm"), "--eps", "4/255,8/255", "--samples", 12, "--format", "json"
    )
    many = run(*SMALL[:-1], 12, "--out", out, "--format", "json")
    for ours, theirs in zip(many.json["cells"], one.json["rows"], strict=True):
        for name in set(ROW) - {"seconds"}:
            assert ours[name] == theirs[name], name


def test_progress_goes_to_standard_error_and_quiet_says_nothing_there(run: Run, out: Path) -> None:
    loud = run(*SMALL, "--out", out)
    for fact in (
        "data   signs, 4 examples",
        "linf at 4/255, 8/255",
        "2 rows of 3 cells",
        "this process",
        str(out),
        "cpu, seed 0",
        "advkit table",
    ):
        assert fact in loud.err
    assert "\x1b" not in loud.out + loud.err
    assert "lenet none fgsm 4/255" in loud.err
    quiet = run(*SMALL, "--out", out, "--quiet")
    assert quiet.err == ""
    assert quiet.out == loud.out


@pytest.mark.parametrize("command", ["sweep", "init"])
def test_help_answers_without_torch(command: str) -> None:
    program = (
        "import sys; from advkit.cli import main\n"
        "try: main([sys.argv[1], '--help'])\n"
        "finally: print({'torch', 'numpy', 'scipy', 'rich'} & set(sys.modules), file=sys.stderr)"
    )
    answer = subprocess.run([sys.executable, "-c", program, command], capture_output=True, text=True, check=True)
    assert "--attack NAME" in answer.stdout
    assert answer.stderr == "set()\n"


def test_the_forms_of_the_table(run: Run, out: Path) -> None:
    made = {form: run(*SMALL, "--out", out, "--format", form) for form in ("csv", "markdown", "latex", "html")}
    assert all(answer.code == 0 for answer in made.values())
    (row,) = csv.DictReader(io.StringIO(made["csv"].out))
    assert row["model"] == "lenet"
    accuracy = [cell["accuracy"] for cell in run("table", out, "--format", "json").json["cells"]]
    assert [float(row[f"fgsm {eps}"]) for eps in ("4/255", "8/255")] == [100 * value for value in accuracy]
    assert "| lenet" in made["markdown"].out
    assert r"\begin{tabular}" in made["latex"].out
    assert "<table" in made["html"].out
    for form, answer in made.items():
        assert run("table", out, "--format", form).out == answer.out, form


def test_without_a_name_the_store_is_called_sweep_and_that_of_a_study_like_its_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*SMALL).code == 0
    assert (tmp_path / "sweep" / "store.json").exists()
    Path("mine.toml").write_text(STUDY)
    assert run("sweep", "mine.toml").code == 0
    assert (tmp_path / "mine" / "store.json").exists()


# ---------------------------------------------------------------------- what the flags reach


def test_weights_may_stand_beside_each_model(run: Run, out: Path) -> None:
    models = ("--model", "resnet@standard", "--model", "resnet@adversarial")
    cells = run(
        *("sweep", *models, "--attack", "fgsm", "--eps", "8/255", "--samples", 12, "--out", out, "--format", "json")
    ).json["cells"]
    found = {row["model"]: (row["weights"], row["accuracy"]) for row in cells}
    assert list(found) == ["resnet@standard", "resnet@adversarial"]
    assert found["resnet@standard"][0].endswith("standard")
    assert found["resnet@adversarial"][0].endswith("adversarial")
    assert found["resnet@adversarial"][1] > found["resnet@standard"][1]


def test_without_a_model_the_other_flags_reach_the_default_one(run: Run, out: Path) -> None:
    flags = ("--weights", "adversarial", "--seed", 5, "--attack", "noise", "--samples", 2)
    (row,) = run("sweep", *flags, "--out", out, "--format", "json").json["cells"]
    assert (row["model"], row["seed"]) == ("resnet", 5)
    assert row["weights"].endswith("adversarial")


def test_each_defense_is_a_row(run: Run, out: Path) -> None:
    defenses = ("--defense", "none", "--defense", "jpeg:20", "--defense", "jpeg:75+bits:3")
    answer = run(*SMALL, *defenses, "--out", out, "--format", "json")
    found = [(row["defense"], row["attack"], row["eps"]) for row in answer.json["cells"]]
    assert found == [
        (defense, attack, eps)
        for defense in defenses[1::2]
        for attack in (("fgsm",) if defense == "none" else ("fgsm", "fgsm (oblivious)"))
        for eps in ("4/255", "8/255")
    ]
    assert "jpeg:20" in run(*SMALL, *defenses, "--out", out).out


def test_transfer_shows_each_model_what_was_made_on_the_other(run: Run, out: Path) -> None:
    cells = run(*FULL, "--transfer", "--out", out, "--format", "json").json["cells"]
    moved = {(row["model"], row["attack"]) for row in cells if " via " in row["attack"]}
    assert moved == {
        (model, f"{attack} via {other}")
        for model, other in (("resnet", "lenet"), ("lenet", "resnet"))
        for attack in ("fgsm", "pgd")
    }
    assert len(cells) == 12 + 12


def test_workers_work_side_by_side_and_find_the_same(run: Run, out: Path, tmp_path: Path) -> None:
    alone = run(*SMALL, "--out", out, "--format", "json").json["cells"]
    answer = run(*SMALL, "--workers", 2, "--out", tmp_path / "other", "--format", "json")
    assert answer.code == 0
    assert "workers=2" in answer.err
    without = [{key: value for key, value in row.items() if key != "seconds"} for row in answer.json["cells"]]
    assert without == [{key: value for key, value in row.items() if key != "seconds"} for row in alone]


def test_all_examples_may_be_asked_for_and_more_than_there_are_is_told(run: Run, npz: Callable[..., Path]) -> None:
    command = ("sweep", "--model", "lenet@random", "--data", npz(), "--attack", "fgsm", "--dry-run", "--format", "json")
    assert {row["n"] for row in run(*command, "--samples", "all").json["plan"]} == {6}
    assert {row["n"] for row in run(*command, "--samples", 9).json["plan"]} == {6}
    loud = run(*command[:-3], "--samples", 9, "--out", npz().with_name("store"))
    assert "note   9 examples are asked for, and there are 6" in loud.err
    assert "note" not in run(*command[:-3], "--samples", "all", "--out", npz().with_name("store")).err


def test_the_default_attack_is_a_row_for_each_radius_by_its_own_name(run: Run, out: Path) -> None:
    answer = run("sweep", "--model", "lenet", "--eps", "8/255,16/255", "--samples", 3, "--out", out)
    assert "plan   2 rows of 2 cells" in answer.err
    shown = [line for line in answer.err.splitlines() if line.startswith("lenet none ")]
    assert [line.split()[2:4] for line in shown] == [["none", "-"], ["standard", "8/255"], ["standard", "16/255"]]
    assert "standard" in answer.out
    cells = run("table", out, "--format", "json").json["cells"]
    assert [row["attack"] for row in cells if row["eps"] == "8/255"] == ["pma", "malt", "square-near", "square"]


def test_what_flags_ask_for_can_be_written_as_a_study_that_makes_the_same_cells(
    run: Run, out: Path, tmp_path: Path
) -> None:
    file = tmp_path / "asked.toml"
    flags = ("--model", "lenet", "--model", "cnn", "--attack", "fgsm", "--attack", "pgd", "--steps", 2, "--norm", "L2",
             "--eps", "1,0.5", "--defense", "none", "--defense", "bits:3", "--samples", 3, "--seed", 7)  # fmt: skip
    first = run("sweep", *flags, "--out", out, "--save-study", file, "--format", "json")
    assert first.code == 0
    before = shards(out)
    again = run("sweep", file, "--out", out, "--format", "json")
    assert again.out == first.out
    assert shards(out) == before
    planned = run("sweep", *flags, "--dry-run", "--save-study", file, "--out", out)
    assert planned.code == 0
    file.write_text("mine")
    said = one_sentence(run("sweep", *flags, "--save-study", file, "--out", out))
    assert f"{file} exists and holds something else" in said
    assert file.read_text() == "mine"


def test_settings_of_attacks_seed_and_target_reach_the_cells(run: Run, out: Path) -> None:
    flags = ("--attack", "pgd", "--steps", 2, "--restarts", 3, "--loss", "margin", "--seed", 5, "--target", "next")
    run("sweep", "--model", "lenet", "--eps", "4/255", "--samples", 2, *flags, "--out", out)
    cells = [json.loads(path.read_text()) for path in out.glob("cells/*/cell.json")]
    attacked = [text for text in map(json.dumps, cells) if "PGD(" in text]
    assert len(attacked) == 1
    for setting in ("steps=2", "restarts=3", "loss=Margin()", '"seed": 5', '"goal": "next"'):
        assert setting in attacked[0]


def test_a_nested_search_and_attacks_afresh_are_kept_apart(run: Run, out: Path) -> None:
    flags = ("sweep", "--model", "lenet", "--attack", "pgd", "--steps", 2, "--eps", "2/255,8/255", "--samples", 2)
    run(*flags, "--out", out)
    assert len(list(out.glob("cells/*"))) == 2
    run(*flags, "--independent", "--out", out)
    assert len(list(out.glob("cells/*"))) == 4


# ---------------------------------------------------------------------- plans


def test_a_dry_run_shows_the_plan_and_computes_and_writes_nothing(run: Run, out: Path) -> None:
    answer = run(*FULL, "--dry-run", "--out", out)
    assert answer.code == 0
    assert not out.exists()
    assert re.search(r"left +10 of 10 cells +10 tasks", answer.out)
    assert "Nothing was computed." in answer.out
    assert answer.out.count("0 of 4") == 2 * (1 + 3 + 1)
    planned = run(*FULL, "--dry-run", "--out", out, "--workers", 2, "--format", "json").json
    assert planned["workers"] == 2
    assert [row["eps"] for row in planned["plan"] if row["attack"] == "pgd"] == [["2/255", "4/255", "8/255"]] * 2
    for row in planned["plan"]:
        assert row["done"] == 0
        assert 0 < row["passes"] == row["forwards"] + row["backwards"] <= row["most_passes"]
        assert row["seconds"] <= row["most_seconds"]
        assert bool(row["backwards"]) == (row["attack"] != "none")


def test_a_dry_run_knows_what_is_done(run: Run, out: Path) -> None:
    run(*SMALL, "--out", out)
    before = shards(out)
    plan = run(*SMALL[:-1], 6, "--dry-run", "--out", out, "--format", "json").json["plan"]
    assert [(row["done"], row["n"]) for row in plan] == [(4, 6)] * 3
    done = run(*SMALL, "--dry-run", "--out", out, "--format", "json").json
    assert [row["passes"] for row in done["plan"]] == [0, 0, 0]
    anew = run(*SMALL, "--dry-run", "--no-resume", "--out", out, "--format", "json").json
    assert [row["done"] for row in anew["plan"]] == [0, 0, 0]
    assert all(row["passes"] for row in anew["plan"])
    assert shards(out) == before


def test_no_resume_computes_the_sweeps_own_cells_anew_and_keeps_the_others(run: Run, out: Path) -> None:
    first = run(*SMALL, "--defense", "none", "--defense", "bits:3", "--out", out)
    before = shards(out)
    again = run(*SMALL, "--no-resume", "--out", out)
    assert (first.code, again.code) == (0, 0)
    after = shards(out)
    anew = {name for name in before if after[name] != before[name]}
    assert after.keys() == before.keys()
    assert 3 <= len(anew) < len(before)


# ---------------------------------------------------------------------- study files


STUDY = """
[study]
data = "signs"
samples = 4
eps = ["4/255", "8/255"]
defenses = ["none", "bits:4"]

[[model]]
model = "lenet"
name = "small"

[[attack]]
attack = "fgsm"
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    return path


def test_a_study_file_says_it_all(run: Run, study: Path, out: Path) -> None:
    cells = run("sweep", study, "--out", out, "--format", "json").json["cells"]
    assert [(row["model"], row["defense"], row["eps"], row["n"]) for row in cells] == [
        ("small", defense, eps, 4) for defense in ("none", "bits:4", "bits:4") for eps in ("4/255", "8/255")
    ]
    # What the study asks for is in the store, and is the same as by flags but for the name.
    flags = run(*SMALL, "--defense", "none", "--defense", "bits:4", "--out", out.with_name("flags"), "--format", "json")
    for ours, theirs in zip(cells, flags.json["cells"], strict=True):
        assert (ours["accuracy"], ours["forwards"]) == (theirs["accuracy"], theirs["forwards"])


@pytest.mark.parametrize(
    "flag",
    [
        ("--eps", "8/255"),
        ("--model", "resnet"),
        ("--attack", "pgd"),
        ("--samples", "9"),
        ("--defense", "none"),
        ("--data", "signs"),
        ("--seed", "0"),
        ("--transfer",),
        ("--steps", "3"),
    ],
    ids=lambda flag: flag[0],
)
def test_a_flag_that_says_what_to_evaluate_contradicts_a_study_file(
    refused: Refused, study: Path, flag: tuple[str, ...]
) -> None:
    said = refused("sweep", study, *flag)
    assert said == (
        f"{flag[0]} says what to evaluate, and so does {study}; write it there, or leave the file out."
    )  # fmt: skip


def test_flags_that_say_how_it_is_run_go_with_a_study_file(run: Run, study: Path, out: Path) -> None:
    flags = ("--device", "cpu", "--on", "processes", "--workers", 2, "--quiet", "--format", "json", "--dry-run")
    answer = run("sweep", study, "--out", out, *flags)
    assert (answer.code, answer.json["workers"]) == (0, 2)


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (("--attack", "pdg"), ("'pdg'", "Did you mean 'pgd'?")),
        (("--model", "lenett"), ("'lenett'", "Did you mean 'lenet'?")),
        (("--defense", "jpge:75"), ("'jpge'", "Did you mean 'jpeg'?")),
        (("--defense", "jpeg:0"), ("quality is 0",)),
        (("--defense", "pgd-at:steps=3"), ("pgd-at:steps=3 is a way to train",)),
        (("--on", "proceses"), ("'proceses'", "Did you mean 'processes'?")),
        (("--track", "tensorbord:x"), ("'tensorbord'", "Did you mean 'tensorboard'?")),
        (("--on", "processes", "--on-set", "wrkers=2"), ("wrkers", "workers")),
        (("--on-set", "workers"), ("--on-set is 'workers'", "KEY=VALUE")),
        (("--on", "local", "--workers", "2"), ("--workers reaches nothing", "local")),
        (("--on", "processes", "--ray-address", "x"), ("--ray-address reaches nothing", "processes")),
        (("--norm", "linff"), ("'linff'", "Did you mean 'linf'?")),
        (("--eps", "-1"), ("0 or more",)),
        (("--batch-size", "0"), ("--batch-size is 0",)),
        (("--format", "jsno"), ("'jsno'", "Did you mean 'json'?")),
        (("--precision", "flot"), ("'flot'",)),
        (("--attack", "pgd", "--loss", "margn"), ("'margn'", "Did you mean 'margin'?")),
        (("--transfer",), ("at least two models",)),
        (("--norm", "l2", "--norm", "linf"), ("--norm is given as l2 and linf", "run them apart")),
        (("--model-set", "widht=3"), ("lenet has no setting 'widht'",)),
        (("--samples", "many"), ("--samples is 'many'", "or all")),
        (("--samples", "0"), ("0 examples were asked for",)),
        (("--oblivious", "--adaptive"), ("--oblivious and --adaptive each leave the other out",)),
        (("--oblivious",), ("--oblivious says what a defense is attacked by", "give --defense")),
        (("--attack", "pgd", "--target", "nothing"), ("'nothing' is no class here", "Did you mean 'no stopping'?")),
        (("--attack", "pgd", "--target", "99"), ("'99' is no class here",)),
        (("--workers", "2", "--on-set", "workers=3"), ("workers is given twice, by --workers and with --on-set",)),
        (("--save-study", "study.txt"), ("--save-study is study.txt", "ends in .toml")),
        (("nowhere.toml",), ("nowhere.toml",)),
    ],
    ids=lambda given: " ".join(given),
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(
    refused: Refused, out: Path, args: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    model = () if "--model" in args or args[0].endswith(".toml") else ("--model", "lenet")
    said = refused("sweep", *model, *args, "--out", out)
    assert all(part in said for part in parts), said
    assert not out.exists()


def test_a_target_that_examples_have_already_is_refused_before_anything_is_computed(run: Run, out: Path) -> None:
    first = run("sweep", "--model", "lenet", "--attack", "fgsm", "--samples", 12, "--target", "next", "--dry-run")
    assert first.code == 0
    label = int(load_data("signs").labels[0])
    said = one_sentence(
        run("sweep", "--model", "lenet", "--attack", "pgd", "--samples", 12, "--target", label, "--out", out)
    )
    assert f"the target {label} is the label of " in said
    assert not out.exists()
    answer = run("sweep", "--model", "lenet", "--attack", "pgd", "--samples", 4, "--target", label, "--exclude", label,
                 "--dry-run")  # fmt: skip
    assert answer.code == 0


def test_a_file_in_the_place_of_the_store_is_left_alone(run: Run, out: Path) -> None:
    out.write_text("mine")
    for more in ((), ("--dry-run",)):
        assert one_sentence(run(*SMALL, "--out", out, *more)) == (
            f"Error: {out} is a file; results are kept in a folder, so give the name of one."
        )
    assert out.read_text() == "mine"


def test_a_folder_of_something_else_is_left_alone(run: Run, out: Path) -> None:
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    said = one_sentence(run(*SMALL, "--out", out, "--quiet"))
    assert f"{out} is not empty and holds no results of a sweep; give another folder." in said
    assert [path.name for path in out.iterdir()] == ["thesis.tex"]


def test_a_store_to_which_another_process_writes_is_refused(run: Run, out: Path) -> None:
    run(*SMALL, "--out", out)
    program = (
        "import sys; from pathlib import Path; from advkit.results.store import Store\n"
        "with Store(Path(sys.argv[1])).lock(): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        for more in ((), ("--no-resume",)):
            said = one_sentence(run(*SMALL, "--out", out, "--quiet", *more))
            assert "another sweep (process" in said
    assert run(*SMALL, "--out", out, "--quiet").code == 0


# ---------------------------------------------------------------------- what goes wrong on the way


def test_ctrl_c_exits_130_says_how_to_go_on_and_going_on_finishes(
    run: Run, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[Any] = []
    perform = tasks.perform

    def interrupted(task: tasks.Task, *others: Any) -> tasks.Report:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(task)
        return perform(task, *others)

    with monkeypatch.context() as patch:
        patch.setattr(tasks, "perform", interrupted)
        stopped = run(*FULL, "--out", out, "--format", "json")
    assert stopped.code == 130
    assert stopped.out == ""
    assert "Traceback" not in stopped.err
    command = " ".join(["advkit", *map(str, FULL), "--out", str(out), "--format json"])
    assert stopped.err.splitlines()[-1] == (
        f"Interrupted. What was finished is in {out}; go on with: {command}"
    )  # fmt: skip
    kept = shards(out)
    assert len([name for name in kept if "pictures" not in name]) == 3
    finished = run(*FULL, "--out", out, "--format", "json")
    assert finished.code == 0
    assert shards(out).items() >= kept.items()
    fresh = run(*FULL, "--out", out.with_name("fresh"), "--format", "json")
    for ours, theirs in zip(finished.json["cells"], fresh.json["cells"], strict=True):
        assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}


FAULTY = """
import pathlib
import torch
from torch import nn

class Faulty(nn.Module):
    def __init__(self):
        super().__init__()
        self.flat = nn.Linear(3, 35)

    def forward(self, x):
        if (pathlib.Path(__file__).parent / "broken").exists():
            {fault}
        return self.flat(x.mean((2, 3)))

def make():
    return Faulty()
"""


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("return self.flat(x.mean((2, 3))) * torch.nan", "NaN"),
        ("raise ValueError('the lights are out')", "(ValueError: the lights are out)"),
    ],
    ids=["no number", "an exception"],
)
def test_a_model_that_fails_among_good_ones_is_named_and_the_table_of_the_others_is_printed(
    run: Run, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, said: str
) -> None:
    file = tmp_path / "faulty.py"
    file.write_text(FAULTY.format(fault=fault))
    run_plan = sweeps.run_plan

    def broken(*args: Any, **settings: Any) -> sweeps.Result:
        (tmp_path / "broken").touch()
        return run_plan(*args, **settings)

    command = (*SMALL, "--model", f"{file}:make", "--out", out, "--format", "json")
    with monkeypatch.context() as patch:
        patch.setattr(sweeps, "run_plan", broken)
        answer = run(*command)
    assert answer.code == 2
    assert {row["model"] for row in answer.json["cells"]} == {"lenet"}
    assert len(answer.json["cells"]) == 2
    assert "Error: none on " in answer.err
    assert str(file) in answer.err
    assert said in answer.err
    assert answer.err.endswith("1 task failed; the same command tries again.\n")
    (tmp_path / "broken").unlink()
    again = run(*command)
    assert again.code == 0
    assert len(again.json["cells"]) == 4


def test_brackets_in_the_path_of_a_model_are_no_markup(run: Run, out: Path, tmp_path: Path) -> None:
    (tmp_path / "a[").mkdir()
    file = tmp_path / "a[" / "b].py"
    file.write_text(FAULTY.format(fault="pass"))
    answer = run("sweep", "--model", f"{file}:make", "--attack", "fgsm", "--samples", 2, "--out", out)
    assert answer.code == 0
    assert f"{file}:make none fgsm 8/255" in answer.err
    assert f"{file}:make" in answer.out


def test_a_bug_in_one_task_shows_its_place_and_the_others_are_done(
    run: Run, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    span = tasks.attack_span

    def buggy(*args: Any, **settings: Any) -> Any:
        if "0.0313" in repr(args[2]):
            raise TypeError("a slip")
        return span(*args, **settings)

    command = (*SMALL[:5], "--eps", "4/255,0.0313,8/255", "--samples", 4, "--out", out, "--format", "json")
    with monkeypatch.context() as patch:
        patch.setattr(tasks, "attack_span", buggy)
        answer = run(*command)
    assert answer.code == 1
    assert [row["eps"] for row in answer.json["cells"]] == ["4/255", "8/255"]
    assert "Error: fgsm on lenet: Traceback" in answer.err
    assert "TypeError: a slip" in answer.err
    assert [row["eps"] for row in run(*command).json["cells"]] == ["4/255", "0.0313", "8/255"]
