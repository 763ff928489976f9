"""``advkit detect``: what it prints, and that every flag reaches what it names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Run

QUICK = ("--samples", "40", "--steps", "3", "--squeezer", "bits:4")


def test_both_kinds_of_attack_stand_beside_each_other_and_a_figure_is_drawn(run: Run, tmp_path: Path) -> None:
    answer = run("detect", *QUICK, "--figure", tmp_path / "roc.png")
    assert answer.code == 0, answer
    text = " ".join(answer.out.split())
    for part in ("without the detector, first success", "adaptive, all steps", "AUC", "fooled and unseen", "bits:4"):
        assert part in text
    assert "20 other clean pictures" in text
    assert (tmp_path / "roc.png").read_bytes().startswith(b"\x89PNG")


def test_json_holds_scores_and_intervals(run: Run) -> None:
    found = run("detect", *QUICK, "--eps", "4/255", "--weight", "2", "--loss", "ce", "--format", "json").json
    assert found["weight"] == 2
    assert found["threat"].startswith("Linf 4/255")
    assert len(found["clean"]) == 20
    assert [attack["pictures"].partition(",")[0] for attack in found["attacks"]] == [
        "without the detector", "without the detector", "adaptive",
    ]  # fmt: skip
    for attack in found["attacks"]:
        assert attack["unseen"]["low"] <= attack["unseen"]["value"] <= attack["unseen"]["high"]
        assert all(0 <= score <= 2 for score in attack["scores"])


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (("--by", "jpeg:75"), "jpeg detects nothing"),
        (("--by", "feature-squeezing:bits:3", "--squeezer", "bits:4"), "both name squeezers"),
        (("--squeezer", "bits:9"), "depth is 9"),
        (("--samples", "10"), "10 pictures of signs are too few"),
        (("--eps", "1/255,2/255"), "a table is of one radius"),
        (("--attack", "worst-case"), "attack of several stages"),
        (("--figure", "roc.gif"), "roc.gif"),
        (("--weight", "0"), "weight of the detector's score is 0"),
    ],
)
def test_bad_input_is_refused(refused: Callable[..., str], args: tuple[str, ...], part: str) -> None:
    assert part in refused("detect", *args)
