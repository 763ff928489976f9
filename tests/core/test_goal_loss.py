"""Goals and losses against hand computations. Every loss is ascended, whatever the goal."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from advkit.catalog import LOSSES
from advkit.core import (
    DLR,
    KL,
    ClippedCrossEntropy,
    CrossEntropy,
    Diverge,
    Margin,
    ProbabilityMargin,
    Targeted,
    TargetedDLR,
    TargetedMargin,
    Untargeted,
)
from advkit.core.goal import pick, rival
from advkit.errors import DataError, InputError

LOGITS = torch.tensor([[2.0, 1.0, 4.0, 0.0], [0.0, 3.0, 1.0, 2.0]], dtype=torch.float64)
LABELS = torch.tensor([2, 0])
TOWARDS = torch.tensor([1, 3])
ALL = [entry.create() for entry in LOSSES.entries()]


def random_logits(count: int, classes: int, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(count, classes, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def goals(count: int, classes: int) -> list:
    g = torch.Generator().manual_seed(1)
    labels = torch.randint(classes, (count,), generator=g)
    towards = (labels + 1) % classes
    return [Untargeted(labels, towards), Targeted(labels), Diverge.of(random_logits(count, classes, seed=5))]


def test_scores_are_picked_by_class():
    assert pick(LOGITS, LABELS).tolist() == [4, 0]
    assert rival(LOGITS, LABELS).tolist() == [2, 3]


def test_margins_and_goals_by_hand():
    untargeted, targeted = Untargeted(LABELS, TOWARDS), Targeted(LABELS)
    assert untargeted.margin(LOGITS).tolist() == [-2, 3]
    assert untargeted.toward(LOGITS).tolist() == [-3, 2]
    assert untargeted.reached(LOGITS).tolist() == [False, True]
    assert targeted.margin(LOGITS).tolist() == [2, -3]
    assert targeted.toward(LOGITS).tolist() == [2, -3]
    assert targeted.reached(LOGITS).tolist() == [True, False]
    diverge = Diverge.of(LOGITS)
    assert diverge.classes.tolist() == [2, 1]
    assert diverge.margin(LOGITS).tolist() == [-2, -1]
    assert diverge.reached(LOGITS).tolist() == [False, False]
    assert diverge.reached(LOGITS.flip(0)).tolist() == [True, True]


def test_a_tie_has_margin_zero_and_is_decided_as_argmax_does():
    tie = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    labels = torch.tensor([0, 1])
    assert Untargeted(labels).margin(tie).tolist() == [0, 0]
    assert Untargeted(labels).reached(tie).tolist() == [False, True]
    assert Targeted(labels).margin(tie).tolist() == [0, 0]
    assert Targeted(labels).reached(tie).tolist() == [True, False]


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_margin_is_positive_where_the_goal_is_reached_and_negative_where_not(classes):
    logits = random_logits(500, classes)
    for goal in goals(500, classes):
        margin = goal.margin(logits)
        assert torch.equal(margin > 0, goal.reached(logits))
        assert bool((margin != 0).all())
        assert torch.equal(ProbabilityMargin()(logits, goal) > 0, goal.reached(logits))


def test_losses_by_hand():
    goal, targeted = Untargeted(LABELS, TOWARDS), Targeted(LABELS)
    log_probs = LOGITS.log_softmax(1)
    ce = torch.stack([-log_probs[0, 2], -log_probs[1, 0]])
    probs = LOGITS.softmax(1)
    expected = {
        CrossEntropy(): (ce, -ce),
        KL(): (ce, -ce),
        ClippedCrossEntropy(): (ce, -ce),
        Margin(): ([-2, 3], [2, -3]),
        ProbabilityMargin(): ([probs[0, 0] - probs[0, 2], probs[1, 1] - probs[1, 0]], None),
        DLR(): ([-2 / (4 - 1), 3 / (3 - 1)], [2 / 3.5, -3 / 2.5]),
        TargetedMargin(): ([-3, 2], [2, -3]),
        TargetedDLR(): ([-3 / (4 - 0.5), 2 / (3 - 0.5)], [2 / 3.5, -3 / 2.5]),
    }
    assert set(expected) == set(ALL)
    for loss, (away, toward) in expected.items():
        assert torch.allclose(loss(LOGITS, goal), torch.as_tensor(away, dtype=torch.float64))
        if toward is not None:
            assert torch.allclose(loss(LOGITS, targeted), torch.as_tensor(toward, dtype=torch.float64))
    assert torch.allclose(ce, F.cross_entropy(LOGITS, LABELS, reduction="none"))


def test_the_divergence_is_kullback_leiblers():
    reference, logits = random_logits(9, 6, seed=1), random_logits(9, 6, seed=2)
    expected = F.kl_div(logits.log_softmax(1), reference.log_softmax(1), log_target=True, reduction="none").sum(1)
    assert torch.allclose(KL()(logits, Diverge.of(reference)), expected)
    assert torch.allclose(KL()(reference, Diverge.of(reference)), torch.zeros(9, dtype=torch.float64))


def test_dlr_is_the_ratio_of_its_paper_and_free_of_shift_and_scale():
    logits, labels = random_logits(200, 10), torch.randint(10, (200,), generator=torch.Generator().manual_seed(0))
    ordered, order = logits.sort(1)
    is_top = (order[:, -1] == labels).double()
    own = pick(logits, labels)
    published = -(own - ordered[:, -2] * is_top - ordered[:, -1] * (1 - is_top)) / (ordered[:, -1] - ordered[:, -3])
    assert torch.allclose(DLR()(logits, Untargeted(labels)), published)
    assert torch.allclose(DLR()(7 * logits + 3, Untargeted(labels)), published)
    target = (labels + 1) % 10
    published = -(own - pick(logits, target)) / (ordered[:, -1] - 0.5 * (ordered[:, -3] + ordered[:, -4]))
    assert torch.allclose(TargetedDLR()(logits, Untargeted(labels, target)), published)


@pytest.mark.parametrize("classes", [2, 3])
def test_with_fewer_than_four_classes_dlr_is_the_margin(classes):
    logits = random_logits(50, classes)
    for goal in goals(50, classes):
        assert torch.equal(DLR()(logits, goal), goal.margin(logits))
        assert torch.equal(TargetedDLR()(logits, goal), goal.toward(logits))


@pytest.mark.parametrize("classes", [2, 3, 4, 10])
@pytest.mark.parametrize("loss", ALL, ids=repr)
def test_losses_and_their_gradients_are_finite_for_wild_logits(loss, classes):
    for dtype in (torch.float32, torch.float64):
        wild = random_logits(60, classes, dtype=dtype)
        wild = torch.cat([1000 * wild, 1e-6 * wild, torch.zeros_like(wild)]).requires_grad_()
        for goal in goals(180, classes):
            value = loss(wild, goal)
            assert value.shape == (180,)
            assert bool(value.isfinite().all())
            (grad,) = torch.autograd.grad(value.sum(), wild)
            assert bool(grad.isfinite().all())


@pytest.mark.parametrize("classes", [2, 5, 10])
@pytest.mark.parametrize("loss", ALL, ids=repr)
def test_ascending_any_loss_brings_any_goal_nearer(loss, classes):
    for goal in goals(200, classes):
        if loss == KL() and isinstance(goal, Diverge):
            continue  # a distribution can move away with its largest class unchanged: the next test
        logits = random_logits(200, classes)
        before = goal.reached(logits).double().mean()
        for _ in range(50):
            logits = logits.detach().requires_grad_()
            (grad,) = torch.autograd.grad(loss(logits, goal).sum(), logits)
            logits = logits + 0.2 * grad / grad.norm(dim=1, keepdim=True).clamp_min(1e-9)
        after = goal.reached(logits).double().mean()
        assert before < 0.95
        assert after > 0.96  # a few stand at the saddle where three probabilities are equal


def test_ascending_the_divergence_leaves_the_reference():
    reference = random_logits(200, 5)
    logits, goal = reference + 0.1 * random_logits(200, 5, seed=9), Diverge.of(reference)
    for _ in range(50):
        logits = logits.detach().requires_grad_()
        before = KL()(logits, goal)
        (grad,) = torch.autograd.grad(before.sum(), logits)
        logits = logits + 0.02 * grad / grad.norm(dim=1, keepdim=True)
        assert bool((KL()(logits, goal) > before).all())


@pytest.mark.parametrize("loss", ALL, ids=repr)
def test_a_value_does_not_depend_on_the_batch(loss):
    logits = random_logits(40, 6)
    for goal in goals(40, 6):
        alone = torch.cat([loss(logits[i : i + 1], goal.take(torch.tensor([i]))) for i in range(40)])
        assert torch.equal(loss(logits, goal), alone)


def test_a_loss_that_pulls_towards_a_class_asks_for_one():
    for loss in (TargetedMargin(), TargetedDLR()):
        with pytest.raises(InputError, match=r"none was chosen: set targets=1 or more"):
            loss(LOGITS, Untargeted(LABELS))


def test_a_goal_takes_rows_of_everything_it_holds():
    index = torch.tensor([1])
    assert Untargeted(LABELS, TOWARDS).take(index).towards.tolist() == [3]
    assert Untargeted(LABELS).take(index).towards is None
    assert torch.equal(Diverge.of(LOGITS).take(index).reference, LOGITS[1:])
    assert Untargeted(LABELS, TOWARDS).to(torch.device("meta")).towards.device.type == "meta"


def test_cross_entropy_has_no_gradient_left_where_the_margin_still_has_one():
    logits = torch.tensor([[2000.0, 0.0, 0.0, 1.0]], requires_grad=True)
    goal = Untargeted(torch.tensor([0]))
    assert float(torch.autograd.grad(CrossEntropy()(logits, goal).sum(), logits)[0].norm()) == 0
    assert float(torch.autograd.grad(Margin()(logits, goal).sum(), logits)[0].norm()) == pytest.approx(math.sqrt(2))


@pytest.mark.parametrize(
    "classes", [[1, 2], (1, 2), np.array([1, 2], dtype=np.uint8), torch.tensor([1, 2], dtype=torch.int32)]
)
@pytest.mark.parametrize("kind", [Targeted, Untargeted])
def test_classes_may_be_any_list_of_whole_numbers(kind, classes):
    goal = kind(classes)
    assert torch.equal(goal.classes, torch.tensor([1, 2]))
    assert torch.equal(goal.take(slice(1, 2)).classes, torch.tensor([2]))
    logits = torch.eye(3)[[1, 1]]
    assert goal.reached(logits).tolist() == ([True, False] if kind is Targeted else [False, True])


@pytest.mark.parametrize("classes", [None, "stop", [[1], [2, 3]], [None]])
def test_classes_that_are_none_are_refused(classes):
    with pytest.raises(DataError, match=r"give one class index for each picture"):
        Targeted(classes)
