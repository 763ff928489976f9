"""``advkit certify``: what it prints, keeps and refuses, and that every flag reaches what it names."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run

from advkit.core.defense import Certificate
from advkit.defenses.smoothing import Smoothing
from advkit.engine import certify as engine
from advkit.results.lock import locked

QUICK = ("certify", "--model", "lenet", "--sigma", "0.12", "--n", "100", "--n0", "20", "--samples", "6")
KEYS = [
    "model", "weights", "defense", "data", "n", "wanted", "by", "settings", "norm", "seed", "rows", "abstained",
    "average_radius", "forwards", "seconds",
]  # fmt: skip


def test_json_is_a_list_with_the_promised_keys_and_nothing_else_is_printed(run: Run) -> None:
    answer = run(*QUICK, "--format", "json")
    (found,) = answer.json
    assert answer.code == 0
    assert answer.out.count("\n") == 1
    assert list(found) == KEYS
    assert (found["model"], found["data"], found["n"], found["norm"], found["by"]) == (
        "lenet", "signs", 6, "l2", "smoothing",
    )  # fmt: skip
    assert found["forwards"] == 6 * 120
    accuracies = [row["accuracy"] for row in found["rows"]]
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[0] > 0
    assert all(row["low"] <= row["accuracy"] <= row["high"] for row in found["rows"])
    assert 0 < found["average_radius"] < found["rows"][-1]["radius"] * 2


def test_the_table_goes_out_and_the_header_beside(run: Run) -> None:
    answer = run(*QUICK)
    assert "radius" in answer.out
    assert "Smoothing(sigma=0.12" in answer.out
    for fact in ("lenet", "6 of 1,000 examples", "cpu, seed 0"):
        assert fact in answer.err
    assert run(*QUICK, "--quiet").err == ""


def test_a_second_run_into_the_same_folder_is_refused(run: Run, tmp_path: Path) -> None:
    with locked(tmp_path / "out", "certify"):
        answer = run(*QUICK, "--out", tmp_path / "out")
    assert (answer.code, answer.out) == (2, "")
    assert "Error: another certify (process " in answer.err
    assert "Traceback" not in answer.err
    assert run(*QUICK, "--out", tmp_path / "out").code == 0


@pytest.mark.parametrize("form", ["table", "markdown", "csv", "latex", "html"])
def test_every_format_holds_the_same_accuracy(run: Run, form: str) -> None:
    (found,) = run(*QUICK, "--format", "json").json
    share = found["rows"][0]["accuracy"]
    text = run(*QUICK, "--format", form).out
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        assert float(rows[0]["accuracy"]) == share
        assert len(rows) == len(found["rows"])
    else:
        assert f"{100 * share:.1f} [" in text


def test_several_sigmas_are_several_certifications(run: Run) -> None:
    found = run(*QUICK[:3], *QUICK[5:], "--sigma", "0.06,0.25", "--format", "json").json
    assert [each["settings"].partition(",")[0] for each in found] == ["Smoothing(sigma=0.06", "Smoothing(sigma=0.25"]
    both = run(*QUICK, "--by", "smoothing", "--by", "smoothing-l1:noise_kind=laplace", "--format", "json").json
    assert [each["norm"] for each in both] == ["l2", "l1"]
    assert all("sigma=0.12" in each["settings"] for each in both)


def test_flags_reach_the_certifier(run: Run) -> None:
    (found,) = run(
        *QUICK, "--alpha", "0.01", "--defense", "bits:3", "--seed", 4, "--exclude", "stop", "--format", "json"
    ).json
    assert found["settings"] == "Smoothing(sigma=0.12, n0=20, n=100, alpha=0.01, radii=())"
    assert (found["defense"], found["seed"]) == ("bits:3", 4)


def test_a_radius_that_is_asked_for_takes_fewer_draws_and_is_the_only_one_shown(run: Run) -> None:
    many = (*QUICK, "--n", "2000", "--samples", "4")
    (whole,) = run(*many, "--format", "json").json
    (asked,) = run(*many, "--radius", "0.05,1/10", "--format", "json").json
    assert [row["radius"] for row in asked["rows"]] == [0.05, 0.1]
    assert asked["forwards"] < 0.7 * whole["forwards"]
    assert asked["abstained"] is None
    assert "radii=(0.05, 0.1)" in asked["settings"]


def test_what_is_kept_is_not_done_again(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(*QUICK, "--out", tmp_path / "kept", "--format", "json").json

    def fail(*args: object) -> Certificate:
        raise AssertionError("certified again")

    monkeypatch.setattr(Smoothing, "certify", fail)
    assert run(*QUICK, "--out", tmp_path / "kept", "--format", "json").json == first


def interrupted_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    whole, done = Smoothing.certify, [0]

    def some(self: Smoothing, model: Any, x: Any, rng: Any, batch_size: int) -> Certificate:
        done[0] += len(x)
        if done[0] > count:
            raise KeyboardInterrupt
        return whole(self, model, x, rng, batch_size)

    monkeypatch.setattr(Smoothing, "certify", some)


def test_an_interruption_shows_what_was_done_and_the_next_run_goes_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        interrupted_after(patched, 3)
        answer = run(*QUICK, "--out", tmp_path, "--format", "json")
    assert answer.code == 130
    assert (answer.json[0]["n"], answer.json[0]["wanted"]) == (3, 6)
    assert f"--out {tmp_path}" in answer.err
    (whole,) = run(*QUICK, "--out", tmp_path, "--format", "json").json
    (fresh,) = run(*QUICK, "--format", "json").json
    assert {**whole, "seconds": 0} == {**fresh, "seconds": 0}


def test_an_interruption_before_anything_is_done_prints_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_after(monkeypatch, 0)
    answer = run(*QUICK)
    assert (answer.code, answer.out) == (130, "")
    assert "Interrupted" in answer.err


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(run: Run, tmp_path: Path) -> None:
    long = (*QUICK[:5], "--n", "300", "--samples", "60", "--out", str(tmp_path), "--format", "json")
    process = subprocess.Popen(
        [sys.executable, "-m", "advkit", *long], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + 120
    while len(list(tmp_path.glob("*/0*.json"))) < 4 and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = sum(len(json.loads(path.read_text())["index"]) for path in tmp_path.glob("*/0*.json"))
    assert 0 < kept < 60
    (found,) = run(*long).json
    (fresh,) = run(*long[:-4], "--format", "json").json
    assert {**found, "seconds": 0} == {**fresh, "seconds": 0}


def test_attacks_inside_are_told_of(run: Run) -> None:
    answer = run(*QUICK, "--samples", 2, "--check", "pgd:steps=2")
    assert answer.code == 0
    assert "0 of" in answer.err.splitlines()[-1]
    (found,) = run(*QUICK, "--samples", 2, "--check", "pgd:steps=2", "--format", "json").json
    assert list(found) == [*KEYS, "check"]
    assert found["check"]["violations"] == []
    assert found["check"]["points"] == 2 * found["check"]["examples"] > 0


def test_a_certificate_that_does_not_hold_ends_with_exit_code_1(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = Smoothing.radius_at
    monkeypatch.setattr(Smoothing, "radius_at", lambda self, p: 6 * sound(self, p))
    answer = run(*QUICK, "--n", 500, "--samples", 3, "--check", "pgd:steps=8")
    assert answer.code == 1
    assert "certificates do not hold" in answer.err
    assert "radius" in answer.out


def test_a_figure_is_drawn(run: Run, tmp_path: Path) -> None:
    assert run(*QUICK, "--figure", tmp_path / "curve.svg").code == 0
    assert "certified accuracy" in (tmp_path / "curve.svg").read_text()


def test_an_unlabelled_batch_size_and_other_data_are_taken(run: Run, npz: Callable[..., Path]) -> None:
    data = npz(y=np.arange(6) % 3)
    found = run(
        "certify",
        "--model",
        "lenet",
        "--weights",
        "random",
        "--data",
        data,
        "--n",
        50,
        "--batch-size",
        7,
        "--format",
        "json",
    ).json
    assert found[0]["n"] == 6


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--by", "smoothin"), "Did you mean 'smoothing'"),
        (("--by", "jpeg"), "jpeg proves nothing"),
        (("--sigma", "0"), "smoothing: sigma is 0.0"),
        (("--sigma", "wide"), "smoothing: sigma is 'wide'"),
        (("--by", "smoothing:sigma=1", "--sigma", "2"), "says sigma twice"),
        (("--n", "0"), "smoothing: n is 0"),
        (("--alpha", "2"), "smoothing: alpha is 2.0"),
        (("--radius", "far"), "--radius is 'far'; give numbers such as 0.5 or 2/255, with commas."),
        (("--radius", "-1"), "give radii above 0"),
        (("--radius", "0,0.5"), "give radii above 0"),
        (("--batch-size", "0"), "--batch-size is 0; give 1 or more"),
        (("--check", "pdg"), "Did you mean 'pgd'"),
        (("--check", "pgd:3"), "pgd:KEY=VALUE"),
        (("--format", "word"), "'word' is not the name of a format"),
        (("--figure", "curve.txt"), "ends in .png, .svg or .pdf"),
        (("--defense", "smoothing"), "advkit certify --by smoothing"),
        (("--by", "smoothing", "--by", "smoothing-l1", "--figure", "c.png"), "several; certify them apart"),
        (("--samples", "0"), "give at least 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input_is_refused_by_a_sentence(
    refused: Callable[..., str], flags: tuple[str, ...], sentence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sentence in refused("certify", "--model", "lenet", *flags)


def test_an_attack_that_cannot_work_in_the_norm_is_refused(refused: Callable[..., str]) -> None:
    assert engine.read_attack("salt").name == "salt"
    assert "L0" in refused(*QUICK, "--check", "salt")
