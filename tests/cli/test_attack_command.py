"""``advkit attack``: what it prints, and that every flag reaches what it names."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import QUICK, Answer, Run

KEYS = ["model", "weights", "data", "n", "norm", "eps", "seed", "clean", "rows", "worst", "doubts"]
ROW = ["attack", "eps", "accuracy", "low", "high", "success", "median_distance", "forwards", "backwards", "seconds"]


def test_json_is_one_object_with_the_promised_keys_and_nothing_else_is_printed(run: Run) -> None:
    answer = run("attack", "--samples", 12, "--steps", 3, "--eps", "4/255,8px", "--format", "json")
    found = answer.json
    assert answer.code == 0
    assert answer.out.count("\n") == 1
    assert list(found) == KEYS
    assert all(list(row) == ROW for row in found["rows"])
    assert list(found["clean"]) == ["accuracy", "low", "high"]
    assert all(list(worst) == ["eps", "accuracy", "low", "high"] for worst in found["worst"])
    assert (found["model"], found["data"], found["n"], found["norm"], found["seed"]) == (
        "resnet20", "signs", 12, "linf", 0,
    )  # fmt: skip
    assert found["eps"] == ["4/255", "8/255"]
    assert [row["eps"] for row in found["rows"]] == ["4/255"] * 3 + ["8/255"] * 3
    for row in found["rows"]:
        assert 0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1
        assert isinstance(row["forwards"], int)
        assert isinstance(row["backwards"], int)
        assert row["median_distance"] is None or 0 < row["median_distance"] <= 8 / 255 + 1e-9
        assert found["clean"]["accuracy"] >= row["accuracy"]
    for worst in found["worst"]:
        assert worst["accuracy"] <= min(r["accuracy"] for r in found["rows"] if r["eps"] == worst["eps"])


def test_progress_and_header_go_to_standard_error(run: Run) -> None:
    answer = run("attack", *QUICK)
    for fact in ("resnet20", "embedded signs-standard", "signs", "6 examples", "Linf 8/255 (0.0314)", "cpu", "seed 0"):
        assert fact in answer.err
    assert "\x1b" not in answer.out + answer.err


def test_quiet_says_nothing_but_the_table(run: Run) -> None:
    answer = run("attack", *QUICK, "--quiet")
    assert answer.err == ""
    assert "worst case" in answer.out


def test_radii_may_be_given_with_commas_or_one_by_one(run: Run) -> None:
    for radii in (("--eps", "1/255,2px"), ("--eps", "1/255", "--eps", "2/255"), ("--eps=1px,2/255", "--eps", "2px")):
        assert run("attack", *QUICK, *radii, "--format", "json").json["eps"] == ["1/255", "2/255"]


def test_radii_are_echoed_as_they_were_written(run: Run) -> None:
    assert run("attack", *QUICK, "--eps", "0.031", "--format", "json").json["eps"] == ["0.031"]


def test_a_rounded_radius_beside_an_exact_one_is_pointed_out(run: Run) -> None:
    assert "0.0314 is" in run("attack", *QUICK, "--eps", "0.0314").err


def test_markdown_holds_the_facts_of_the_header_and_a_table(run: Run) -> None:
    lines = run("attack", *QUICK, "--format", "markdown").out.splitlines()
    assert all(fact in lines[0] for fact in ("resnet20", "signs-standard", "n = 6", "linf", "seed 0"))
    rows = [line.strip("|").split("|") for line in lines if line.startswith("|")]
    assert {len(row) for row in rows} == {7}
    assert [row[0].strip() for row in rows] == ["attack", "---", "none (clean)", "pgd", "**worst case**"]


def test_csv_has_one_number_per_cell_and_says_in_each_row_what_it_is_of(run: Run) -> None:
    answer = run("attack", *QUICK, "--format", "csv", "--per-class", "--target", "stop", "--exclude", "stop")
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    assert all(row["model"] == "resnet20" and row["n"] == "6" and row["goal"] == "stop" for row in rows)
    assert [row["attack"] for row in rows[:3]] == ["none", "pgd", "worst case"]
    assert float(rows[1]["accuracy"]) <= 1
    assert float(rows[1]["forwards"]) > 0
    classes = {row["class"] for row in rows} - {""}
    assert 1 <= len(classes) <= 6
    assert "stop" not in classes


def test_latex_is_a_table_for_booktabs(run: Run) -> None:
    text = run("attack", *QUICK, "--format", "latex").out
    body = [line for line in text.splitlines() if not line.startswith("%")]
    assert body[0] == r"\begin{tabular}{llrrrrr}"
    assert body[-1] == r"\end{tabular}"
    rows = [line for line in body if line.endswith(r"\\")]
    assert len(rows) == 4
    assert {line.count("&") for line in rows} == {6}
    assert "seed 0" in text


def test_the_table_fits_into_80_columns(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    monkeypatch.setattr(Console, "is_terminal", True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    lines = run("attack", "--samples", 6, "--steps", 3, "--quiet").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("none (clean)") and "[61.0, 100.0]" in line for line in lines)


def test_attacks_are_repeatable_and_two_of_one_name_are_told_apart(run: Run) -> None:
    found = run("attack", *QUICK, "--attack", "fgsm", "--attack", "pgd", "--format", "json").json
    assert [row["attack"] for row in found["rows"]] == ["pgd", "fgsm", "pgd (2)"]


def test_survivors_meet_only_what_the_attacks_before_left_standing(run: Run) -> None:
    flags = ("attack", *QUICK, "--attack", "noise", "--eps", "8/255", "--format", "json")
    alone, after = run(*flags).json["rows"][1], run(*flags, "--survivors").json["rows"][1]
    assert after["forwards"] < alone["forwards"]
    assert after["accuracy"] <= alone["accuracy"]


def saved(run: Run, tmp_path: Path, *flags: object) -> dict[str, object]:
    run("attack", *QUICK, *flags, "--save", tmp_path / "out", "--quiet")
    found: dict[str, object] = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    return found


@pytest.mark.parametrize(
    ("flags", "setting"),
    [
        (("--step-size", "0.5"), "step_size=0.5"),
        (("--restarts", "2"), "restarts=2"),
        (("--loss", "margin"), "loss=Margin()"),
        (("--set", "random_start=no"), "random_start=False"),
        (("--set", "random-start=false"), "random_start=False"),
        (("--norm", "l2"), "threat=L2(eps=0.5)"),
        (("--norm", "L1", "--eps", "3"), "threat=L1(eps=3"),
        ((), "steps=3"),
    ],
)
def test_flags_reach_the_attack(run: Run, tmp_path: Path, flags: tuple[str, ...], setting: str) -> None:
    assert setting in str(saved(run, tmp_path, *flags)["outcomes"])


@pytest.mark.parametrize("rule", ["next", "random", "least-likely", "stop", "0"])
def test_a_targeted_attack_counts_only_its_target_as_success(run: Run, tmp_path: Path, rule: str) -> None:
    found = saved(run, tmp_path, "--targeted", rule, "--eps", "32/255", "--exclude", "stop")
    outcome = found["outcomes"][0]  # type: ignore[index]
    assert found["goal"] == rule
    assert sum(outcome["success"]) > 0
    for label, seen, won in zip(found["labels"], outcome["prediction"], outcome["success"], strict=True):  # type: ignore[call-overload]
        if rule == "next":
            assert won == (seen == (label + 1) % 35)
        elif rule in ("stop", "0"):
            assert won == (seen == 0)


def test_targeted_alone_means_the_next_class_and_leaves_the_word_to_target(run: Run, tmp_path: Path) -> None:
    assert saved(run, tmp_path, "--targeted")["goal"] == "next"
    assert saved(run, tmp_path, "--targeted", "--target", "stop", "--exclude", "stop")["goal"] == "stop"


def test_samples_beyond_the_data_are_all_of_it(run: Run, npz: Callable[..., Path]) -> None:
    flags = ("--model", "lenet", "--weights", "random", "--data", npz(), "--format", "json")
    assert run("attack", "--samples", 10**6, "--attack", "fgsm", *flags).json["n"] == 6


def test_batch_size_does_not_change_what_is_found(run: Run) -> None:
    def facts(answer: Answer) -> list[dict[str, object]]:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in answer.json["rows"]]

    one, many = (run("attack", *QUICK, "--batch-size", size, "--format", "json") for size in (1, 64))
    assert facts(one) == facts(many)


def test_the_seed_decides_what_is_random(run: Run, tmp_path: Path) -> None:
    def distances(seed: int, place: str) -> object:
        return saved(run, tmp_path / place, "--norm", "l2", "--eps", "0.3", "--seed", seed)["outcomes"][0]["distance"]  # type: ignore[index]

    assert distances(1, "a") == distances(1, "b")
    assert distances(1, "a") != distances(2, "c")


@pytest.mark.parametrize("precision", ["float32", "folded", "mixed", "auto"])
def test_the_precision_of_the_search_is_said(run: Run, precision: str) -> None:
    said = run("attack", *QUICK, "--precision", precision).err
    assert f"search in {'float32;' if precision == 'float32' else ''}" in said
    assert ("folded" in said) == (precision != "float32")


def test_per_class_shows_each_class_that_occurs(run: Run) -> None:
    found = run("attack", *QUICK, "--per-class", "--format", "json").json
    assert list(found) == [*KEYS, "per_class"]
    assert sum(each["n"] for each in found["per_class"]) == 6
    assert all(each["class"] in run("attack", *QUICK, "--per-class").out for each in found["per_class"])


def test_the_device_can_be_named(run: Run) -> None:
    assert "device cpu" in run("attack", *QUICK, "--device", "cpu").err


def test_settings_of_data_and_model_are_passed_on(run: Run) -> None:
    flags = ("--model", "cnn", "--weights", "random", "--model-set", "activation=tanh", "--data-set", "count=5")
    assert run("attack", "--attack", "fgsm", *flags, "--format", "json").json["n"] == 5


def test_a_flag_reaches_the_attacks_that_have_it(run: Run) -> None:
    answer = run("attack", "--samples", 4, "--attack", "fgsm", "--attack", "pgd", "--steps", 2, "--format", "json")
    assert answer.code == 0


@pytest.mark.parametrize("args", [["--help"], ["attack", "--help"], ["list", "--help"], ["train", "--help"], []])
def test_help_needs_no_torch(args: list[str]) -> None:
    code = (
        "import sys\nfrom advkit.cli import main\n"
        f"try: main({args!r})\nexcept SystemExit as end: assert end.code == 0, end.code\n"
        "assert not {'torch', 'numpy', 'rich'} & set(sys.modules), 'heavy'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage: advkit" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_help_takes_less_than_half_a_second_of_processor_time() -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "advkit", "--help"], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    assert spent < 0.5, f"{spent:.2f} s of processor time, {time.perf_counter() - began:.2f} s by the clock"


def test_a_reader_that_leaves_is_told_in_one_sentence() -> None:
    code = "from advkit.cli import main; main(['attack', '--help'])"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
        assert said.startswith("Error: standard output cannot be written (who reads it has left)")
        assert said.count("\n") == 1
