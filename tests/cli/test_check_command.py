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
    verdict, numbers, rest = answer.out.rstrip().splitlines()[-3:]
    assert verdict.startswith("no sign of gradient masking")
    assert numbers.startswith("accuracy ")
    assert "under the plain attack, corrected" in numbers
    assert "forward and" in rest
    for code in (f"P{number}" for number in range(1, 21)):
        assert f"\n{code} " in f"\n{answer.out}"
    for fact in ("resnet20", "embedded signs-standard", "8 examples", "Linf 8/255"):
        assert fact in answer.err


def test_a_defense_of_the_users_own_that_masks_is_told_and_strict_says_so_by_its_code(run: Run, own: str) -> None:
    answer = run("check", *QUICK, "--defense", own)
    assert answer.code == 0
    verdict = answer.out.rstrip().splitlines()[-3]
    assert verdict.startswith("masks its gradients: yes (P")
    assert "P11" in verdict
    assert "P14" in verdict
    assert "Run: BPDA" in " ".join(answer.out.split())
    assert 'backward = "straight-through"' in " ".join(answer.out.split())
    assert run("check", *QUICK, "--defense", own, "--strict", "--quiet").code == 1


def test_json_holds_every_check_its_remedy_and_both_numbers(run: Run, own: str) -> None:
    found = run("check", *QUICK, "--defense", own, "--format", "json").json
    assert found["masks"] is True
    assert (found["n"], found["correct"]) == (8, 8)
    keys = {"code", "indicator", "check", "verdict", "evidence", "advice", "remedy", "number"}
    assert all(set(check) == keys for check in found["checks"])
    assert {check["verdict"] for check in found["checks"]} <= {"pass", "warn", "fail", "unknown"}
    assert 0 <= found["corrected"]["value"] < found["plain"]["value"] <= 1
    gradient = next(check for check in found["checks"] if check["indicator"] == "I1")
    assert gradient["verdict"] == "fail"
    assert gradient["remedy"].startswith("Run: BPDA")
    assert gradient["number"] == found["corrected"]["value"]


def test_a_claim_and_broader_threats_can_be_asked_for(run: Run) -> None:
    found = run("check", *QUICK, "--expected", "99", "--broader", "--format", "json").json
    checks = {check["code"]: check for check in found["checks"]}
    assert "99.0 % is claimed" in checks["P2"]["evidence"]
    assert checks["P19"]["verdict"] in ("pass", "warn")


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
        (("--expected", "101"), "--expected"),
        (("--defense", "feature-squeezing"), "advkit detect"),
    ],
)
def test_bad_input_is_refused(refused: Callable[..., str], args: tuple[str, ...], part: str) -> None:
    assert part in refused("check", *args)
