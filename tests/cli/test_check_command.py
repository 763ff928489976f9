"""``advkit check``: what it prints, and its exit code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Run

QUICK = ("--samples", "8", "--steps", "3", "--queries", "4")
OWN = """import torch


class Round(torch.nn.Module):
    def forward(self, x):
        return torch.round(8 * x) / 8
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(OWN)
    return f"{tmp_path / 'mine.py'}:Round"


def test_the_shipped_model_shows_no_sign_of_masking(run: Run) -> None:
    answer = run("check", *QUICK, "--strict")
    assert answer.code == 0, answer
    assert answer.out.rstrip().splitlines()[-1].startswith("no sign of gradient masking")
    for code in ("P3", "P4", "P5", "P6", "P7", "P8", "P9", "P10", "P11", "P12", "P14"):
        assert code in answer.out
    for fact in ("resnet20", "embedded signs-standard", "8 examples", "Linf 8/255"):
        assert fact in answer.err


def test_a_defense_of_the_users_own_that_masks_is_told_and_strict_says_so_by_its_code(run: Run, own: str) -> None:
    answer = run("check", *QUICK, "--defense", own)
    assert answer.code == 0
    last = answer.out.rstrip().splitlines()[-1]
    assert last.startswith("masks its gradients: yes (P11")
    assert "P14" in last
    assert 'backward = "straight-through"' in " ".join(answer.out.split())
    assert run("check", *QUICK, "--defense", own, "--strict", "--quiet").code == 1


def test_json_holds_every_check(run: Run, own: str) -> None:
    found = run("check", *QUICK, "--defense", own, "--format", "json").json
    assert found["masks"] is True
    assert (found["n"], found["correct"]) == (8, 8)
    assert all(set(check) == {"code", "check", "verdict", "evidence", "advice"} for check in found["checks"])
    assert {check["verdict"] for check in found["checks"]} <= {"pass", "warn", "fail", "unknown"}


def test_a_way_to_train_stands_for_its_weights(run: Run) -> None:
    answer = run("check", *QUICK, "--defense", "pgd-at+bits:5", "--norm", "l2", "--format", "csv")
    assert answer.code == 0
    assert "adversarial" in answer.err
    assert "L2 0.5" in answer.err
    assert "bits (straight-through)" in answer.out


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (("--eps", "1/255,2/255"), "the checks take one radius"),
        (("--norm", "l0"), "PGD works in Linf, L2, L1"),
        (("--defense", "jpge"), "Did you mean 'jpeg'?"),
        (("--format", "jsn"), "'jsn'"),
        (("--samples", "0"), "--samples"),
        (("--defense", "feature-squeezing"), "advkit detect"),
    ],
)
def test_bad_input_is_refused(refused: Callable[..., str], args: tuple[str, ...], part: str) -> None:
    assert part in refused("check", *args)
