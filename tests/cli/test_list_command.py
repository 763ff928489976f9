"""``advkit list``: everything registered, in every format."""

from __future__ import annotations

import csv
import io

import pytest
from command_line import Run

from advkit import catalog

KINDS = ["attacks", "backbones", "datasets", "defenses", "directions", "executors", "losses", "trackers"]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "backbones"])
def test_nothing_registered_is_missing(run: Run, kind: str) -> None:
    names = getattr(catalog, kind.upper()).names()
    rows = run("list", kind, "--format", "json").json[kind]
    assert [next(iter(row.values())) for row in rows] == names
    assert all(row["what it does"].endswith(".") for row in rows), "a summary is a sentence"
    text = run("list", kind).out
    assert all(name in text for name in names)


@pytest.mark.parametrize("form", ["table", "markdown", "csv", "latex"])
def test_every_format_lists_the_attacks(run: Run, form: str) -> None:
    answer = run("list", "attacks", "--format", form)
    assert answer.code == 0
    assert answer.err == ""
    assert "salt-greedy" in answer.out
    assert "\x1b" not in answer.out
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(answer.out)))
        assert [row["attack"] for row in rows] == catalog.ATTACKS.names()
        assert {row["knows"] for row in rows} <= {"gradient", "scores", "decisions"}


def test_all_lists_are_shown_where_none_is_named(run: Run) -> None:
    assert list(run("list", "--format", "json").json) == KINDS
    found = run("list", "--only", "pgd", "--format", "json").json
    assert list(found) == ["attacks", "defenses"]


def test_a_backbone_is_shown_with_its_numbers(run: Run) -> None:
    rows = run("list", "backbones", "--only", "lenet", "--format", "json").json["backbones"]
    (row,) = (row for row in rows if row["backbone"] == "lenet")
    assert int(row["parameters"].replace(",", "")) > 10_000
    text = run("list", "backbones", "--only", "lenet", "--channels", "1", "--size", "28").out
    assert "for 10 classes and pictures 1 x 28 x 28" in text
    assert row["parameters"] not in text


def test_a_backbone_that_cannot_take_the_size_says_so_in_its_row(run: Run) -> None:
    (row,) = run("list", "backbones", "--only", "alexnet", "--size", "3", "--format", "json").json["backbones"]
    assert row["parameters"] == "-"
    assert "3 x 3" in row["what it is"]


def test_a_defense_says_its_kind_and_how_gradients_pass_it(run: Run) -> None:
    rows = {
        row["defense"]: (row["kind"], row["backward"])
        for row in run("list", "defenses", "--format", "json").json["defenses"]
    }
    assert rows["jpeg"] == ("wrapper", "surrogate")
    assert rows["mean"] == ("wrapper", "exact")
    assert rows["resize-pad"] == ("wrapper", "exact, EOT")
    assert rows["pgd-at"] == ("train", "")
    assert rows["awp"] == ("modifier", "")
    assert rows["smoothing"] == ("certifier", "")
    assert rows["feature-squeezing"] == ("detector", "")
    assert {kind for kind, _ in rows.values()} == {"train", "modifier", "wrapper", "certifier", "detector"}
    assert all((kind == "wrapper") == bool(backward) for kind, backward in rows.values())


def test_settings_are_shown_with_their_defaults(run: Run) -> None:
    (row,) = run("list", "attacks", "--settings", "--only", "bim", "--format", "json").json["attacks"]
    assert "steps=10" in row["settings"]
    assert "threat=Linf(eps=8/255" in row["settings"]


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (("attacks", "--only", "zzz"), ("'zzz'", "attacks")),
        (("--format", "jsn"), ("'jsn'", "'json'")),
        (("backbones", "--size", "0"), ("--size", "x>=1")),
        (("backbones", "--classes", "1"), ("--classes", "x>=2")),
        (("backbones", "--channels", "0"), ("--channels", "x>=1")),
    ],
)
def test_bad_input_is_refused(refused: object, args: tuple[str, ...], parts: tuple[str, ...]) -> None:
    said = refused("list", *args)  # type: ignore[operator]
    assert all(part in said for part in parts), said
