"""Votes of parts of a picture: what no patch can turn is certified, and nothing else."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers import Spy, pictures, seeded, trained
from torch import Tensor, nn

from advkit.backbones.classifier import Classifier
from advkit.core.defense import Certificate
from advkit.core.rng import Rng, identify
from advkit.defenses._ablation import Ablation
from advkit.defenses.ablation import AblationTraining
from advkit.defenses.derandomised import Derandomised
from advkit.engine.defend import build_certifier, build_objective
from advkit.errors import DataError, InputError


def certify(certifier: Derandomised, model: nn.Module, x: Tensor, batch_size: int = 64) -> Certificate:
    return certifier.certify(model, x, Rng.of(0, identify(x)), batch_size)


def wide(height: int = 5, width: int = 7, *, size: int = 2, shape: str = "columns") -> tuple[Ablation, Tensor]:
    return Ablation(shape, size, 0.5, "fill"), pictures(1, (3, height, width), margin=0.1)  # type: ignore[arg-type]


# ---- what is left


@pytest.mark.parametrize(("shape", "size"), [("columns", 1), ("columns", 3), ("blocks", 2), ("blocks", 5)])
def test_every_place_leaves_its_part_and_hides_the_rest(shape: str, size: int) -> None:
    ablation, x = wide(size=size, shape=shape)
    places = ablation.places(x)
    assert places == (7 if shape == "columns" else 35)
    shown = ablation.shown(nn.Identity(), x.repeat(places, 1, 1, 1), torch.arange(places))
    kept = (shown == x).all(1)
    assert kept.flatten(1).sum(1).tolist() == [size * (5 if shape == "columns" else size)] * places
    assert bool((shown[~kept[:, None].expand_as(shown)] == 0.5).all())
    # Each pixel is seen equally often: the parts go round the edges.
    assert kept.sum(0).unique().numel() == 1


@pytest.mark.parametrize(("shape", "size"), [("columns", 1), ("columns", 3), ("blocks", 1), ("blocks", 3)])
def test_no_square_is_seen_in_more_parts_than_counted(shape: str, size: int) -> None:
    ablation, x = wide(size=size, shape=shape)
    places = ablation.places(x)
    kept = (ablation.shown(nn.Identity(), x.repeat(places, 1, 1, 1), torch.arange(places)) == x).all(1)
    for side in range(1, 6):
        seen = [
            int(kept[:, top : top + side, left : left + side].flatten(1).any(1).sum())
            for top in range(6 - side)
            for left in range(8 - side)
        ]
        assert max(seen) == ablation.touched(side, 5, 7)


def test_channels_hold_the_picture_and_its_negative() -> None:
    x = pictures(1, (3, 4, 6))
    shown = Ablation("columns", 2, "mean", "channels").shown(nn.Identity(), x, torch.tensor([5]))
    assert shown.shape == (1, 6, 4, 6)
    assert torch.equal(shown[..., [5, 0]], torch.cat([x, 1 - x], 1)[..., [5, 0]])
    assert not bool(shown[..., 1:5].any())


# ---- certificates


class Votes(nn.Module):
    """The class that is written in the first pixel that is left: tenths of a grey level, -1 being nothing."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        seen = (x[:, 0].amax((1, 2)) * 10).round().long()
        return 20 * F.one_hot(seen.clamp(max=self.classes - 1), self.classes).to(x)


def written(classes: list[int]) -> Tensor:
    return (torch.tensor(classes) / 10).expand(1, 1, len(classes), len(classes)).contiguous()


@pytest.mark.parametrize("size", [1, 2])
def test_no_change_of_the_votes_that_a_patch_reaches_turns_a_certified_answer(size: int) -> None:
    """Brute force: every place of every square, and for each other class the worst votes."""
    certifier = Derandomised(size=size, fill=0.0)
    seen_radii = set()
    for seed in range(40):
        draw = torch.rand(9, generator=torch.Generator().manual_seed(seed))
        classes = torch.where(draw < 0.02 * seed, 2, 1 if seed % 2 else 3).tolist()
        x = written(classes)
        found = certify(certifier, Votes(4), x)
        votes_of = [
            [c == max(classes[p], *(classes[(p + i) % 9] for i in range(size))) for c in range(4)] for p in range(9)
        ]
        votes = torch.tensor(votes_of).long()
        assert torch.equal(certifier.votes(Votes(4), x, 64)[0], votes.sum(0))
        answer, radius = int(found.prediction), int(found.radius)
        seen_radii.add(radius)
        turned = {}
        for side in range(1, 10):
            turned[side] = False
            for left in range(10 - side):
                reached = [p for p in range(9) if any((p + i) % 9 in range(left, left + side) for i in range(size))]
                for other in set(range(4)) - {answer}:
                    worst = votes.clone()
                    worst[reached, answer] = 0
                    worst[reached, other] = 1
                    turned[side] |= int(worst.sum(0).argmax()) != answer
        assert not any(turned[side] for side in range(1, radius + 1))
    assert len(seen_radii) >= 3


def test_the_largest_side_follows_from_the_lead() -> None:
    # All of 20 columns vote for class 1. Class 0 comes before it and wins with as many votes: 2 m <= 19; else 2 m <= 20.
    certifier = Derandomised(size=1, fill=0.0)
    assert certify(certifier, Votes(3), written([1] * 20)).radius.tolist() == [9.0]
    assert certify(certifier, Votes(3), written([0] * 20)).radius.tolist() == [10.0]
    # Columns of 4: a square of m is seen by m + 3.
    assert certify(Derandomised(size=4, fill=0.0), Votes(3), written([1] * 20)).radius.tolist() == [6.0]
    # Blocks of 2: 400 votes, (m + 1)^2 <= 200.
    assert certify(Derandomised("blocks", 2, fill=0.0), Votes(3), written([0] * 20)).radius.tolist() == [13.0]
    assert certify(certifier, Votes(3), written([0, 1] * 10)).prediction.tolist() == [0]
    assert certify(certifier, Votes(3), written([0, 1] * 10)).radius.tolist() == [0.0]


def test_a_part_votes_for_every_class_above_the_threshold() -> None:
    class Even(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([0.48, 0.42, 0.1]).log().expand(len(x), 3)

    x = pictures(1, (1, 6, 6), dtype=torch.float32)
    for threshold, votes in ((0.3, [6, 6, 0]), (0.45, [6, 0, 0]), (0.5, [0, 0, 0])):
        assert Derandomised(threshold=threshold).votes(Even(), x, 64)[0].tolist() == votes


@pytest.mark.parametrize(("shape", "size", "radius"), [("columns", 1, 2), ("columns", 2, 1), ("blocks", 3, 1)])
def test_no_patch_changes_a_certified_answer(shape: str, size: int, radius: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(4, 3, 8, 8, generator=generator).repeat(16, 1, 1, 1) + 0.1 * torch.randn(
        64, 3, 8, 8, generator=generator
    )
    x, y = x.clamp(0, 1), torch.arange(64) % 4
    objective = AblationTraining(shape, size)  # type: ignore[arg-type]
    model = seeded(nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.ReLU(), nn.Linear(32, 4)), dtype=torch.float32)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(150):
        optimizer.zero_grad()
        objective(model, x, y, step).backward()
        optimizer.step()
    certifier = Derandomised(shape, size)  # type: ignore[arg-type]
    found = certify(certifier, model, x, 1024)
    certified = found.radius >= radius
    assert int(certified.sum()) >= 6
    sure, answer = x[certified][:6], found.prediction[certified][:6]
    for top in range(9 - radius):
        for left in range(9 - radius):
            attacked = sure.clone()
            # another picture's square: it votes for another class
            other = x[(answer + 1 + top) % 4]
            place = (..., slice(top, top + radius), slice(left, left + radius))
            attacked[place] = other[place]
            assert torch.equal(certify(certifier, model, attacked, 1024).prediction, answer)


def test_the_same_certificate_alone_and_in_any_batch_with_few_rows_at_once() -> None:
    model, x, _ = trained()
    certifier = Derandomised(size=3)
    together = certify(certifier, model, x[:6])
    spy = Spy(model)
    again = certify(certifier, spy, x[:6], 5)
    assert spy.largest == 5
    assert spy.forwards == int(again.forwards.sum()) == 6 * 8
    assert all(torch.equal(a, b) for a, b in zip(again, together, strict=True))
    alone = certify(certifier, model, x[2:3])
    assert all(torch.equal(a, b[2:3]) for a, b in zip(alone, together, strict=True))


def test_what_attacks_search_is_the_mean_over_the_parts() -> None:
    model, x, _ = trained()
    certifier = Derandomised(size=3)
    parts = [model(certifier.ablation.shown(model, x[:4], torch.full((4,), place))).softmax(1) for place in range(8)]
    expected = torch.stack(parts).mean(0)
    torch.testing.assert_close(certifier.searched(model)(x[:4]).softmax(1), expected)
    points = x[:4].clone().requires_grad_()
    (grad,) = torch.autograd.grad(certifier.searched(model)(points)[:, 0].sum(), points)
    assert bool((grad != 0).any(1).flatten(1).any(1).all())


# ---- training


def test_training_shows_one_part_of_each_picture_by_seed_and_picture() -> None:
    x, y = pictures(64, dtype=torch.float32, margin=0.01), torch.zeros(64, dtype=torch.long)
    objective = AblationTraining(size=2, fill=0.0)
    shown = objective.examples(nn.Identity(), x, y, 3)
    kept = (shown == x).all(1)
    assert kept.flatten(1).sum(1).tolist() == [16] * 64
    assert len({tuple(k[0].tolist()) for k in kept}) == 8, "every column is drawn"
    assert torch.equal(objective.examples(nn.Identity(), x[5:6], y[5:6], 3), shown[5:6])
    assert not torch.equal(objective.examples(nn.Identity(), x, y, 4), shown)


def test_training_fills_with_the_mean_of_the_models_normalisation() -> None:
    net = seeded(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), dtype=torch.float32)
    model = Classifier(net, name="net", mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))
    x = pictures(2, dtype=torch.float32)
    shown = AblationTraining().examples(model, x, torch.zeros(2, dtype=torch.long), 0)
    outside = (shown != x).any(1)
    assert torch.allclose(shown.permute(0, 2, 3, 1)[outside], torch.tensor([0.1, 0.2, 0.3]))


def test_training_on_columns_teaches_columns() -> None:
    x = 0.4 + 0.2 * pictures(64, (1, 6, 6), dtype=torch.float32)
    y = torch.arange(64) % 2
    x[:, :, 0] = y.float()[:, None, None]  # every column tells the class in its first row
    certified = []
    for objective in (build_objective("standard"), AblationTraining(size=1)):
        model = seeded(nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, 2)), dtype=torch.float32)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for step in range(150):
            optimizer.zero_grad()
            objective(model, x, y, step).backward()
            optimizer.step()
        found = certify(Derandomised(size=1, threshold=0.9), model, x)
        certified.append(float(((found.radius >= 2) & (found.prediction == y)).double().mean()))
    assert certified[1] > 0.9
    assert certified[1] > certified[0] + 0.3


# ---- errors


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"columns of 9 pixels do not fit pictures of 8 x 8"):
        certify(Derandomised(size=9), nn.Identity(), pictures(1))


def test_they_are_found_by_name() -> None:
    assert build_certifier("derandomised:blocks,size=12") == Derandomised("blocks", 12)
    assert build_objective("ablation:columns,4") == AblationTraining("columns", 4)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("size=0", "derandomised: size is 0; give 1 pixel or more."),
        ("threshold=0", "derandomised: threshold is 0.0; give a probability above 0, up to 1."),
        ("shape=rings", "derandomised: shape is 'rings'; allowed: columns, blocks."),
        ("fill=2", "derandomised: fill is '2'; give a grey level from 0 to 1, or mean."),
    ],
)
def test_settings_out_of_range_are_refused(text: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        build_certifier(f"derandomised:{text}")
    assert str(caught.value) == sentence
