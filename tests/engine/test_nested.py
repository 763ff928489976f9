"""One search for many radii finds each example's smallest one; what it states agrees with attacks at single radii."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import pytest
import torch
from helpers import Spy, linear, pictures, trained
from torch import Tensor, nn

from advkit.attacks import BIM, FGSM, PGD, GreedySalt
from advkit.backbones import load_model
from advkit.catalog import ATTACKS
from advkit.core import L0, L2, Attack, Ball, Ensemble, Goal, Linf, Targeted, TargetedMargin, Untargeted
from advkit.core.fitted import Fitted
from advkit.core.modes import borrowed
from advkit.data import load_data
from advkit.engine.examples import Finished, Source
from advkit.engine.ladder import Ladder
from advkit.engine.passes import Passes
from advkit.engine.precision import Precision
from advkit.engine.run import Run
from advkit.engine.search import Found, search
from advkit.errors import InputError

RADII = (0.01, 0.02, 0.03, 0.045, 0.06, 0.1, 0.2)
EXACT = {"rtol": 0, "atol": 1e-12}


class Curve(NamedTuple):
    found: Found
    finished: dict[tuple[int, int], tuple[Tensor, bool]]  # (radius, example): the picture and whether it is a success
    progress: list[tuple[int, int]]


def curve(
    attacks: Sequence[Attack],
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    goal: Goal | None = None,
    attacked: Tensor | None = None,
    nested: bool = True,
    batch_size: int = 16,
    seed: int = 0,
) -> Curve:
    finished: dict[tuple[int, int], tuple[Tensor, bool]] = {}
    progress: list[tuple[int, int]] = []

    def sink(done: Finished) -> None:
        for i, radius in enumerate(done.rung.tolist()):
            finished[radius, int(done.example[i])] = (done.x_adv[i], bool(done.success[i]))

    with torch.no_grad():
        clean = model(x).argmax(1)
    with borrowed(model):
        found = search(
            attacks,
            Passes(model, Precision.own(model), batch_size),
            Source(lambda indices: x[list(indices)], goal or Untargeted(y)),
            (clean == y).repeat(len(attacks), 1) if attacked is None else attacked,
            clean,
            y,
            seed=seed,
            nested=nested,
            sink=sink,
            progress=lambda done, total: progress.append((done, total)),
        )
    return Curve(found, finished, progress)


def at(attack: Attack, radii: Sequence[float]) -> list[Attack]:
    return [replace(attack, threat=type(attack.threat)(radius)) for radius in radii]  # type: ignore[type-var]


def iterative() -> list:
    """Each registered attack that searches its ball, at radii between which examples of ``trained`` fall."""
    found = []
    for entry in ATTACKS.entries():
        made = entry.create()
        if isinstance(made, Attack) and made.nested:
            few = {"steps": 10 if entry.name == "ti-fgsm" else 5} if "steps" in entry.settings else {}
            if made.tells == "scores" and getattr(made, "queries", 0) > 400:
                few = {"queries": 400}
            ball, radii = (L0, (1, 4, 12, 40)) if L0 in made.balls else (Linf, RADII)
            if entry.name == "ti-fgsm":  # its smoothing is wider than these pictures
                radii = (0.1, 0.3, 0.45, 0.6, 0.8)
            ladder = [entry.create(threat=ball(radius), **few) for radius in radii]
            found.append(pytest.param(ladder, id=entry.name))
    return found


def smallest(found: Found, labels: Tensor) -> list[int]:
    """The number of radii at which each example stands."""
    return (found.prediction == labels).sum(0).tolist()


# ---------------------------------------------------------------------- which attacks search


def test_attacks_of_one_step_and_noise_do_not_search_and_all_others_do() -> None:
    made = {entry.name: entry.create() for entry in ATTACKS.entries()}
    searching = {
        name for name, attack in made.items() if isinstance(attack, Attack) and (attack.nested or attack.minimal)
    }
    blind = {name for name, attack in made.items() if isinstance(attack, Attack)} - searching
    # What is drawn has another form at another radius: a shorter strip is not a part of a longer one.
    drawn = {name for name, attack in made.items() if isinstance(attack, Attack) and attack.controls()}
    fitted = {name for name, attack in made.items() if isinstance(attack, Fitted)}
    assert blind - drawn - fitted == {"fgsm", "rs-fgsm", "noise", "salt"}
    stages = [stage for each in made.values() if isinstance(each, Ensemble) for _, stage in each.stages]
    assert all(stage.nested or stage.minimal for stage in stages)


def test_pgd_of_a_single_step_does_not_search() -> None:
    assert not PGD(steps=1).nested
    assert PGD(steps=2).nested


# ---------------------------------------------------------------------- what is found


@pytest.mark.parametrize("attacks", iterative())
def test_a_curve_never_rises_and_an_example_beaten_once_is_beaten_at_every_larger_radius(
    attacks: list[Attack],
) -> None:
    model, x, y = trained()
    found = curve(attacks, model, x, y).found
    falls = (found.prediction != y) & (model(x).argmax(1) == y)
    assert bool((falls[1:] >= falls[:-1]).all())
    assert bool((found.success[1:] >= found.success[:-1]).all())
    counts = falls.sum(1).tolist()
    assert len(set(counts)) > 2, f"an easy case shows nothing: {counts}"


@pytest.mark.parametrize("attacks", iterative())
def test_at_the_largest_radius_it_is_the_attack_at_that_radius_alone(attacks: list[Attack]) -> None:
    model, x, y = trained()
    nested, alone = curve(attacks, model, x, y), curve(attacks[-1:], model, x, y)
    for field in fields(Found):
        assert torch.equal(getattr(nested.found, field.name)[-1], getattr(alone.found, field.name)[0]), field.name
    for (_, example), (x_adv, success) in alone.finished.items():
        picture, verdict = nested.finished[len(attacks) - 1, example]
        assert torch.equal(picture, x_adv)
        assert verdict == success


@pytest.mark.parametrize("attacks", iterative())
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_picture_lies_in_the_ball_of_its_own_radius(attacks: list[Attack], dtype: torch.dtype) -> None:
    import copy

    model, x, y = trained()
    model, x = copy.deepcopy(model).to(dtype), x.to(dtype)
    made = curve(attacks, model, x, y)
    assert len({radius for radius, _ in made.finished}) > 2
    beaten = 0
    for (radius, example), (x_adv, success) in made.finished.items():
        clean = x[example][None]
        assert bool(attacks[radius].threat.contains(x_adv[None], clean).all())
        if success:
            beaten += 1
            assert int(model(x_adv[None]).argmax()) != int(y[example])
            assert float(made.found.distance[radius, example]) == float(
                attacks[radius].threat.distance(x_adv[None], clean)
            )
    assert beaten > 10


def test_counted_passes_are_the_passes() -> None:
    inner, x, y = trained()
    for attacks in (at(PGD(steps=5, restarts=2, targets=2, loss=TargetedMargin()), RADII), at(GreedySalt(), (1, 4, 9))):
        model = Spy(inner)
        found = curve(attacks, model, x, y, batch_size=7).found
        assert model.forwards == int(found.forwards.sum()) + len(x)  # and the look at the clean pictures in curve()
        assert model.backwards == int(found.backwards.sum())


# ---------------------------------------------------------------------- closed forms


def margins(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of a linear model: labels, and for each rival the margin to it and the difference of weights (B, K - 1, ...)."""
    logits, weight = model(x).detach(), model[1].weight.detach()  # type: ignore[index]
    order = logits.argsort(1, descending=True)
    y, rivals = order[:, 0], order[:, 1:]
    return y, logits.gather(1, y[:, None]) - logits.gather(1, rivals), weight[rivals] - weight[y][:, None]


def centred(classes: int, *, seed: int) -> nn.Module:
    """A linear model whose boundaries meet in the grey picture, so that examples are near to and far from them."""
    model = linear(classes, seed=seed)
    with torch.no_grad():
        model[1].bias.copy_(-0.5 * model[1].weight.sum(1))
    return model


def rungs_above(cost: Tensor, count: int) -> list[float]:
    """So many radii, each in the middle between the costs of two neighbouring examples; some stand at all of them."""
    ordered = cost.sort().values
    middle = (ordered[1:] * ordered[:-1]).sqrt()
    clear = [float(m) for m, low in zip(middle[:-1], ordered[:-2], strict=True) if float(m / low) > 1.015]
    assert len(clear) >= count, "too few examples are far enough apart"
    return clear[:: len(clear) // count][:count]


@pytest.mark.parametrize("count", [2, 3, 5, 8])
@pytest.mark.parametrize(("ball", "order"), [(Linf, 1), (L2, 2)], ids=["linf", "l2"])
def test_on_a_linear_model_each_example_falls_at_the_first_radius_above_its_margin(
    ball: type[Ball], order: int, count: int
) -> None:
    model, x = centred(2, seed=3), pictures(40, margin=0.35)
    y, margin, slope = margins(model, x)
    cost = margin[:, 0] / torch.linalg.vector_norm(slope[:, 0], order, dim=1)
    radii = rungs_above(cost, count)
    found = curve(at(PGD(ball(1.0), steps=30), radii), model, x, y).found
    expected = torch.searchsorted(torch.tensor(radii, dtype=torch.float64), cost)
    assert smallest(found, y) == expected.tolist()
    assert {0, count} <= set(expected.tolist()), "some fall at the smallest radius, some at none"


def test_every_rival_is_tried_at_every_radius() -> None:
    # The nearest boundary is not always that to the likeliest rival: pulled there alone, some would fall too late.
    model, x = centred(5, seed=2), pictures(40, margin=0.35)
    with torch.no_grad():
        model[1].weight.mul_(torch.tensor([1.0, 0.5, 2.0, 1.5, 0.7])[:, None])
        model[1].bias.mul_(torch.tensor([1.0, 0.5, 2.0, 1.5, 0.7]))
    y, margin, slope = margins(model, x)
    costs = margin / slope.abs().sum(2)
    radii = rungs_above(costs.amin(1), 6)
    attacks = at(PGD(steps=25, loss=TargetedMargin(), targets=4, random_start=False), radii)
    expected = torch.searchsorted(torch.tensor(radii, dtype=torch.float64), costs.amin(1)).tolist()
    assert smallest(curve(attacks, model, x, y).found, y) == expected
    late = torch.searchsorted(torch.tensor(radii, dtype=torch.float64), costs[:, 0].contiguous()).tolist()
    assert late != expected, "an easy case shows nothing"


def test_white_dots_are_as_few_as_can_be() -> None:
    model, x = centred(2, seed=3), pictures(20)
    y, margin, slope = margins(model, x)
    each = (slope[:, 0] * (1 - x.flatten(1))).reshape(len(x), 3, -1).sum(1)
    gains = each.clamp_min(0).sort(1, descending=True).values.cumsum(1)
    least = (gains <= margin).sum(1) + 1
    radii = (1, 2, 3, 5, 8, 13)
    found = curve(at(GreedySalt(probes=64), radii), model, x, y).found
    expected = torch.searchsorted(torch.tensor(radii), least)
    assert smallest(found, y) == expected.tolist()
    assert len(set(expected.tolist())) > 2


# ---------------------------------------------------------------------- what it costs


def test_six_radii_cost_at_most_three_times_the_largest_alone_where_half_of_the_examples_stand() -> None:
    model, x, y = trained()
    radii = [0.008 * k for k in range(1, 7)]
    attacks = at(PGD(steps=20), radii)
    whole, alone = curve(attacks, model, x, y).found, curve(attacks[-1:], model, x, y).found
    stands = float((alone.prediction[0] == y).double().mean())
    assert 0.3 < stands < 0.7, stands

    def passes(found: Found) -> int:
        return int((found.forwards + found.backwards).sum())

    assert passes(whole) <= 3 * passes(alone)
    afresh = curve(attacks, model, x, y, nested=False).found
    assert passes(afresh) > 3 * passes(alone), "an easy case shows nothing"


def test_what_was_found_is_tried_at_the_next_radius_by_a_forward_pass_alone() -> None:
    inner, x = linear(2, seed=3), pictures(1, margin=0.35)
    y, margin, slope = margins(inner, x)
    cost = float(margin / slope.abs().sum())
    # Steps of a twentieth of the ball find it at the top before they are far out, at 1.2 times the cost at most.
    attacks = at(BIM(steps=30, step_size=0.05), [0.5 * cost, 1.5 * cost, 4 * cost])
    model = Spy(inner)
    found = curve(attacks, model, x, y).found
    assert found.tested[:, 0].tolist() == [True, True, True]
    assert found.success[:, 0].tolist() == [False, True, True]
    assert (found.forwards[1, 0], found.backwards[1, 0]) == (1, 0)
    assert found.distance[1, 0] == found.distance[2, 0]
    # At the smallest radius the picture is no help, and all steps are searched.
    assert found.backwards[0, 0] == 30
    assert model.backwards == int(found.backwards.sum())


def test_the_search_at_a_smaller_radius_starts_from_what_was_found_pulled_back() -> None:
    started: list[Tensor] = []

    @dataclass(frozen=True)
    class Noted(PGD):
        def start(self, first, x, goal, rng):  # type: ignore[no-untyped-def]
            started.append(first.clone())
            return super().start(first, x, goal, rng)

    model, x = linear(2, seed=3), pictures(1, margin=0.35)
    y, margin, slope = margins(model, x)
    cost = float(margin / slope.abs().sum())
    attacks = at(Noted(steps=5, restarts=2), [0.5 * cost, 2 * cost])
    made = curve(attacks, model, x, y)
    top = made.finished[1, 0][0]
    at_the_top, pulled, second = started
    torch.testing.assert_close(pulled, attacks[0].threat.project(top[None], x), **EXACT)
    assert not torch.equal(at_the_top, pulled)
    assert not torch.equal(second, pulled), "the second restart draws its own start"


def test_a_restart_that_is_needed_at_one_radius_is_taken_at_that_radius() -> None:
    model, x, y = trained()
    once, often = (curve(at(PGD(steps=2, restarts=r), RADII), model, x, y).found for r in (1, 6))
    few, many = (torch.tensor(smallest(found, y)) for found in (once, often))
    assert int(few.sum()) > int(many.sum())
    stood = often.tested & (often.prediction == y)
    assert bool((often.steps[stood] == 12).all())


# ---------------------------------------------------------------------- company


@pytest.mark.parametrize("attack", [PGD(steps=4, restarts=2), BIM(L2(1.0), steps=4)], ids=["linf", "l2"])
def test_what_is_found_does_not_depend_on_who_shares_the_lanes(attack: Attack) -> None:
    model, x, y = trained()
    radii = RADII if isinstance(attack.threat, Linf) else [10 * radius for radius in RADII]
    attacks = at(attack, radii)
    one, seven, all_at_once = (curve(attacks, model, x, y, batch_size=size) for size in (1, 7, 64))
    alone = [curve(attacks, model, x[i : i + 1], y[i : i + 1]) for i in range(len(x))]
    assert len(set(smallest(one.found, y))) > 3, "examples at different radii share the lanes"
    for other in (seven, all_at_once):
        assert other.finished.keys() == one.finished.keys()
        for place, (x_adv, success) in one.finished.items():
            torch.testing.assert_close(other.finished[place][0], x_adv, **EXACT)
            assert other.finished[place][1] == success
    for field in fields(Found):
        expected = getattr(one.found, field.name)
        together = torch.cat([getattr(each.found, field.name) for each in alone], 1)
        for other in (getattr(seven.found, field.name), getattr(all_at_once.found, field.name), together):
            torch.testing.assert_close(other, expected, **EXACT)


def test_progress_grows_and_ends_at_the_whole() -> None:
    model, x, y = trained()
    done, total = zip(*curve(at(PGD(steps=4, restarts=2), RADII), model, x, y).progress, strict=True)
    assert len(set(total)) == 1
    assert list(done) == sorted(done)
    assert done[0] < total[0]
    assert done[-1] == total[-1]


# ---------------------------------------------------------------------- later stages


def test_a_later_stage_searches_only_where_the_former_ones_left_something_standing() -> None:
    model, x, y = trained()
    right = model(x).argmax(1) == y
    heights = torch.arange(len(x)) % (len(RADII) + 1)  # radii at which each example is still standing
    attacked = (torch.arange(len(RADII))[:, None] < heights) & right
    attacks = at(PGD(steps=5), RADII)
    found = curve(attacks, model, x, y, attacked=attacked).found
    assert not bool((found.tested & ~attacked).any())
    assert not bool(((found.forwards > 0) & ~attacked).any())
    assert bool(found.tested[:, heights > 0].any(0)[right[heights > 0]].all())
    for example in range(len(x)):
        height = int(heights[example])
        if height and right[example]:
            alone = curve(attacks[:height], model, x[example : example + 1], y[example : example + 1]).found
            for name in ("tested", "success", "prediction", "distance", "steps"):
                torch.testing.assert_close(getattr(found, name)[:height, example], getattr(alone, name)[:, 0], **EXACT)
            # Above, nothing was attacked: what was found lower down is carried there.
            assert bool((found.prediction[height:, example] == found.prediction[height - 1, example]).all())


def test_an_attack_on_nobody_finds_nothing() -> None:
    model, x, y = trained()
    nobody = torch.zeros(len(RADII), len(x), dtype=torch.bool)
    found = curve(at(PGD(steps=2), RADII), model, x, y, attacked=nobody).found
    assert not bool(found.tested.any())
    assert int(found.forwards.sum()) == 0
    assert torch.equal(found.prediction, model(x).argmax(1).repeat(len(RADII), 1))


def test_radii_that_were_not_tested_say_what_the_nearest_smaller_beaten_one_says() -> None:
    def table(*rows: Sequence[float]) -> Tensor:
        return torch.tensor(rows, dtype=torch.float64)

    labels, clean = torch.tensor([7, 7, 7]), torch.tensor([7, 7, 7])
    found = replace(
        Found.nothing(5, clean),
        tested=table([0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 0], [1, 1, 1]).bool(),
        success=table([0, 0, 0], [0, 0, 0], [1, 0, 1], [0, 0, 0], [1, 0, 1]).bool(),
        prediction=table([7, 7, 7], [7, 7, 7], [3, 7, 5], [7, 7, 7], [4, 7, 6]).long(),
        distance=table([0, 0, 0], [0.2, 0, 0], [0.3, 0, 0.31], [0, 0, 0], [0.5, 0.49, 0.51]),
    )
    whole = found.complete(labels)
    assert whole.prediction.T.tolist() == [[7, 7, 3, 3, 4], [7, 7, 7, 7, 7], [7, 7, 5, 5, 6]]
    assert whole.success.T.int().tolist() == [[0, 0, 1, 1, 1], [0, 0, 0, 0, 0], [0, 0, 1, 1, 1]]
    assert whole.distance.T.tolist() == [[0, 0.2, 0.3, 0.3, 0.5], [0, 0, 0, 0, 0.49], [0, 0, 0.31, 0.31, 0.51]]
    assert torch.equal(whole.tested, found.tested), "what was not tested stays so"


def test_a_target_is_reached_at_every_radius_above_the_smallest_at_which_it_is() -> None:
    model, x = centred(2, seed=3), pictures(40, margin=0.35)
    y, margin, slope = margins(model, x)
    cost = margin[:, 0] / slope[:, 0].abs().sum(1)
    radii = rungs_above(cost, 5)
    found = curve(at(PGD(steps=20), radii), model, x, y, goal=Targeted(1 - y)).found
    expected = torch.searchsorted(torch.tensor(radii, dtype=torch.float64), cost)
    assert (~found.success).sum(0).tolist() == expected.tolist()


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("radii", [(0.02, 0.01), (0.01, 0.01), (0.01, 0.03, 0.02)])
def test_radii_that_do_not_ascend_are_refused(radii: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="the radii of a nested search must ascend, each given once"):
        Ladder(at(FGSM(), radii))


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_nested_search_stops_at_the_first_success_and_cannot_keep_anything_else(keep: str) -> None:
    model, x, y = trained()
    source = Source(lambda indices: x[list(indices)], Untargeted(y))
    passes = Passes(model, Precision.own(model), 4)
    with pytest.raises(ValueError, match=f"keep is '{keep}'; a nested search stops at the first success"):
        Run(Ladder(at(PGD(), RADII)), passes, source, keep=keep)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- a real model


@pytest.mark.slow
def test_on_the_embedded_adversarial_model_it_is_as_strong_as_attacks_at_single_radii() -> None:
    data = load_data("signs").head(24)
    x, y = data.pictures(range(24)), torch.as_tensor(data.labels)[:24]
    model = load_model("resnet", weights="adversarial", data=data)
    attacks = at(PGD(steps=8), (2 / 255, 4 / 255, 8 / 255, 12 / 255))
    nested, afresh = (curve(attacks, model, x, y, nested=how).found for how in (True, False))
    stands, expected = ((found.prediction == y).sum(1) for found in (nested, afresh))
    assert bool((stands <= expected + 1).all()), (stands, expected)
    assert int(expected[0] - expected[-1]) >= 4, "an easy case shows nothing"
