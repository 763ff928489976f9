"""What is beaten is beaten in the file too: a rounding that keeps it is looked for, inside the ball and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers import linear, pictures
from torch import Tensor, nn

from advkit.attacks import PGD
from advkit.core import L2, Ball, Linf, Untargeted
from advkit.data import TensorData
from advkit.engine.evaluate import evaluate
from advkit.engine.passes import Passes
from advkit.engine.precision import Precision
from advkit.engine.reload import check_png, reloaded, rounded
from advkit.engine.stages import Observer
from advkit.errors import DataError
from advkit.results.files import Saver
from advkit.results.levels import level_distance, levels_of, pictures_of


class Sum(nn.Module):
    """Class 1 where the values sum to more than ``limit`` levels above 100 each, else class 0."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, x: Tensor) -> Tensor:
        over = (x * 255 - 100).flatten(1).sum(1) - self.limit
        return torch.stack([torch.zeros_like(over), over], 1)


def asked(model: nn.Module, change: Tensor, ball: Ball, tells: str, won: bool = True) -> Tensor:
    x = torch.full_like(change, 100 / 255)
    passes = Passes(model, Precision.own(model), 8)
    count = len(change)
    goal = Untargeted(torch.zeros(count, dtype=torch.long))
    flags = torch.full((count,), won)
    levels = rounded(passes, x, x + change / 255, goal, ball, flags, tells=tells, seed=0)
    assert (level_distance(levels, levels_of(x), ball) <= ball.eps).all()
    return levels.double() - 100


@pytest.mark.parametrize("tells", ["gradient", "scores", "decisions"])
def test_what_rounding_towards_the_clean_picture_loses_is_won_back(tells: str) -> None:
    change = torch.full((3, 1, 4, 4), 1.6)
    # 16 values of 1.6 are 25.6; rounded towards the clean picture they are 16, to the nearest 32.
    assert (asked(Sum(20), change, Linf("2/255"), tells).sum((1, 2, 3)) > 20).all()


def test_what_knew_another_model_has_one_try() -> None:
    change = torch.full((1, 1, 4, 4), 1.6)
    assert asked(Sum(20), change, Linf("2/255"), "nothing").sum() == 16


def test_what_was_not_beaten_is_rounded_and_no_more() -> None:
    change = torch.full((1, 1, 4, 4), 1.6)
    assert asked(Sum(20), change, Linf("2/255"), "gradient", won=False).sum() == 16


def test_what_no_rounding_wins_is_climbed_further_with_gradients_alone() -> None:
    change = torch.full((1, 1, 4, 4), 0.6)
    assert asked(Sum(20), change, Linf("3/255"), "scores").sum() == 0
    assert asked(Sum(20), change, Linf("3/255"), "gradient").sum() > 20


def test_what_nothing_inside_the_ball_wins_stays_rounded_towards_the_clean_picture() -> None:
    change = torch.full((1, 1, 4, 4), 1.6)
    assert asked(Sum(40), change, Linf("2/255"), "gradient").sum() == 16


def test_a_euclidean_ball_takes_as_many_as_fit() -> None:
    # Each value turned from 1 to 2 costs 3: of 16 + 3 k <= 41 levels squared, k is 8.
    change = torch.full((1, 1, 4, 4), 1.6)
    assert asked(Sum(23.5), change, L2(repr(41**0.5 / 255 + 1e-9)), "gradient").sum() == 24


def test_an_example_is_rounded_alike_alone_and_in_company() -> None:
    generator = torch.Generator().manual_seed(0)
    change = 1 + torch.rand((6, 1, 4, 4), generator=generator)
    ball = Linf("2/255")
    together = asked(Sum(24), change, ball, "scores")
    alone = torch.cat([asked(Sum(24), change[i : i + 1], ball, "scores") for i in range(6)])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("ball", [Linf("2/255"), L2("0.3")], ids=str)
def test_files_are_judged_as_they_were_read(tmp_path: Path, ball: Ball) -> None:
    x = pictures(12, (3, 6, 6), seed=3, dtype=torch.float32)
    model = linear(4, (3, 6, 6), seed=1, dtype=torch.float32)
    data = TensorData((x * 255).round().byte(), model((x * 255).round() / 255).argmax(1), name="drawn")
    saver = Saver(tmp_path, lambda indices: data.pictures(indices), "png")
    observer = Observer(finished=lambda name, part: saver.add(name, part.example, part.x_adv))
    before = evaluate(model, data, PGD(ball, steps=5), observer=observer)
    result, off = reloaded(saver, model, data, before)
    assert off == 0
    (outcome,) = result.outcomes
    files = outcome.reloaded
    assert files is not None
    assert not files.over.any()
    from advkit.results.files import read_png

    for i in range(len(data)):
        levels = read_png(next(tmp_path.glob(f"*@*/{files.files[i]}")))[None]
        assert int(model(pictures_of(levels)).argmax(1)) == int(files.prediction[i])
        assert float(level_distance(levels, levels_of(data.pictures([i])), ball)) == float(files.distance[i])
        assert levels_of(data.pictures([i]))[0].equal(read_png(next((tmp_path / "clean").glob(f"{i:05d}-*.png"))))
    (row,) = result.rows()
    assert row.reloaded is not None
    assert row.reloaded.accuracy.value == float((files.prediction == result.labels).double().mean())
    assert before.outcomes[0].success.any()
    assert abs(row.reloaded.success - row.success) <= 2 / 12


def test_clean_pictures_between_the_levels_are_counted_and_their_changes_kept(tmp_path: Path) -> None:
    x = pictures(6, (3, 6, 6), seed=3, dtype=torch.float32)
    model = linear(4, (3, 6, 6), seed=1, dtype=torch.float32)
    data = TensorData(x, model(x).argmax(1))
    saver = Saver(tmp_path, lambda indices: data.pictures(indices), "png")
    observer = Observer(finished=lambda name, part: saver.add(name, part.example, part.x_adv))
    before = evaluate(model, data, PGD(Linf("8/255"), steps=5), observer=observer)
    result, off = reloaded(saver, model, data, before)
    files = result.outcomes[0].reloaded
    assert off == 6
    assert files is not None
    assert not files.over.any()
    assert (files.distance > 4 / 255).any()


def test_pictures_of_five_channels_are_refused() -> None:
    data = TensorData(torch.zeros(2, 5, 4, 4), torch.tensor([0, 1]))
    with pytest.raises(DataError, match="have 5; leave --as out"):
        check_png(data)
