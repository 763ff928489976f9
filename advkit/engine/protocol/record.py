"""What makes a number one that others can check: threat model, sane inputs, budget, interval, repetition (P1-P3, P17-P20)."""

from __future__ import annotations

import hashlib
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from advkit.core.goal import Untargeted
from advkit.core.losses import CrossEntropy
from advkit.core.rng import Rng, identify
from advkit.engine.checks import better_order
from advkit.engine.examples import Finished, Source
from advkit.engine.protocol.case import Case
from advkit.engine.protocol.finding import FAIL, LUCK, PASS, UNKNOWN, WARN, Answer, counted, of, percent
from advkit.engine.provenance import circumstances, code_version
from advkit.engine.run import Run
from advkit.engine.standards import expected_standard
from advkit.results.statistics import Share, share

__all__ = [
    "Corrected",
    "broader_threats",
    "budget_holds",
    "clean_accuracy",
    "corrected",
    "hashes",
    "interval_is_narrow",
    "same_seed_same_result",
    "sane",
    "stated",
]

_REPEATS = 50  # evaluations of a model that draws: of 10 the mean itself strays by some points where examples are few
_WIDE = 0.1  # half an interval
_SURVIVE = 0.01  # of the successes may be lost in 8 bits without a word
_FEW = 16
_NO_ROOM = 1e-12
_TURNS = (-30, -15, 15, 30)  # degrees
_SHIFTS = ((0.1, 0.0), (-0.1, 0.0), (0.0, 0.1), (0.0, -0.1))  # of the picture
_SIGMA = 0.05


class Corrected(NamedTuple):
    """The accuracy at the worst pictures that were found, asked of the caller's own model: ``value`` with an interval.

    ``repeats`` is how often a model that draws was asked; its interval is that of the mean over repeats and examples.
    """

    value: float
    low: float
    high: float
    repeats: int

    @property
    def percent(self) -> str:
        """As in a table."""
        return Share(self.value, self.low, self.high).percent


def corrected(case: Case) -> Corrected:
    """Each example at its worst picture so far, confirmed by the model itself in fresh draws."""
    repeats = _REPEATS if case.unsteady else 1
    right = torch.stack([case.judge(case.ledger.worst).argmax(1) == case.y for _ in range(repeats)]).double()
    inside = case.ball.contains(case.ledger.worst, case.x)
    right = torch.where(inside, right, 1.0)
    if repeats == 1:
        return Corrected(*share(int(right.sum()), len(case.y)), 1)
    mean = float(right.mean())
    # Each example has an accuracy of its own; their spread and that of the repeats both enter.
    half = 1.96 * float(right.mean(0).std() / len(case.y) ** 0.5 + right.mean(1).std() / repeats**0.5)
    return Corrected(mean, max(0.0, mean - half), min(1.0, mean + half), repeats)


def stated(case: Case) -> Answer:
    """Norm, exact radius, box, knowledge, goal and the number of examples: a number without them says nothing."""
    name = case.data.name if case.data is not None else "the pictures"
    said = f"White box, untargeted, {case.ball.label} within [0, 1], the first {counted(len(case.y))} of {name}"
    if case.ball.doubt:
        return Answer(WARN, f"{said}.", f"{case.ball.doubt[0].upper()}{case.ball.doubt[1:]}")
    return Answer(PASS, f"{said}.")


def clean_accuracy(case: Case) -> Answer:
    """A model that is near chance has no robustness to lose, and one below its claim is loaded or normalised wrongly."""
    right = share(case.total, len(case.y))
    said = f"Right on {right.percent} % of the clean pictures; chance is {percent(case.chance)}"
    order = None if case.data is None else case.data.other_order
    if told := better_order(order, case.y, case.logits.argmax(1)):
        return Answer(FAIL, *told)
    if case.data is not None and not case.unsteady:
        found = expected_standard(case.model, case.data, case.correct, case.batch_size)
        if found is not None:
            return Answer(FAIL, found.sentence, found.advice)
    if right.value <= case.chance:
        return Answer(FAIL, f"{said}.", "Weights, normalisation and data do not belong together.")
    if right.low <= case.chance:
        return Answer(WARN, f"{said}.", "Take more examples, or a better model.")
    if case.expected is not None and right.high < case.expected:
        return Answer(WARN, f"{said}; {percent(case.expected)} is claimed.", "Look at normalisation, size and labels.")
    claimed = "" if case.expected is None else f"; {percent(case.expected)} is claimed"
    return Answer(PASS, f"{said}{claimed}.")


def sane(case: Case) -> Answer:
    """Finite weights (refused before), pictures that fill [0, 1], more than one class, and nothing gained by no change."""
    low, high = float(case.x.min()), float(case.x.max())
    classes = case.logits.shape[1]
    still = case.plain(ball=case.within(_NO_ROOM), steps=2)
    apart = 0 if case.unsteady else int(case.beaten(still).sum())
    said = f"Weights are finite, pictures span [{low:.2f}, {high:.2f}], {classes} classes"
    if apart:
        return Answer(
            FAIL, f"{said}; {of(apart, len(case.y))} fall at a radius of {_NO_ROOM}.", "Use one form of the model."
        )
    if high - low < 0.1 or classes < 2:
        return Answer(WARN, f"{said}.", "Give pictures in [0, 1], unnormalised, and a model of two classes or more.")
    return Answer(PASS, f"{said}, and nothing falls at a radius of {_NO_ROOM}.")


def budget_holds(case: Case) -> Answer:
    """Distances in float64, the box, NaN; and what is left of the successes in the 8 bits of a picture file."""
    worst, x = case.ledger.worst, case.x
    moved = (worst != x).flatten(1).any(1) & case.correct
    if not bool(moved.any()):
        return Answer(UNKNOWN, "Nothing fell, so there is nothing to measure.")
    outside = int((~case.ball.contains(worst, x) & moved).sum())
    furthest = float(case.ball.distance(worst[moved], x[moved]).max())
    said = f"The furthest of {counted(int(moved.sum()))} lies at {furthest:.6g} of {float(case.ball.eps):.6g}"
    if outside:
        return Answer(FAIL, f"{of(outside, int(moved.sum())).capitalize()} leave the ball.", "No number here is valid.")
    levels = (255 * x.double()).round()
    if bool(((255 * x.double() - levels).abs() > 1e-3).any()):
        return Answer(PASS, f"{said}, in float64; the clean pictures are none of 8 bits, so no file is simulated.")
    change = 255 * worst.double() - levels
    # Towards the clean picture; 1e-4, since 8/255 in float32 is not 8 levels to the last bit.
    kept = torch.where(change >= 0, (change + 1e-4).floor(), (change - 1e-4).ceil())
    read = ((levels + kept).clamp(0, 255) / 255).to(x.dtype)
    index = moved.nonzero().squeeze(1)
    beyond = int((case.ball.distance(read[index], (levels[index] / 255).to(x.dtype)) > case.ball.eps + 1e-6).sum())
    still = int((case.wrong(index, read[index]) >= 0.5).sum())
    said = f"{said}; as 8-bit files {of(still, len(index))} still deceive and {beyond} leave the ball"
    if beyond:
        return Answer(FAIL, f"{said}.", "Round towards the clean picture.")
    if still < (1 - _SURVIVE) * len(index) - 1:
        return Answer(
            WARN, f"{said}.", "Report the number after reloading as well (advkit attack --save DIR --as png)."
        )
    return Answer(PASS, f"{said}.")


def interval_is_narrow(case: Case) -> Answer:
    """The mean over examples of the minimum over attacks, with n and an interval."""
    at = case.once("corrected", lambda: corrected(case))
    runs = len(case.ledger.runs)
    drawn = f", mean of {at.repeats} evaluations" if at.repeats > 1 else ""
    said = f"Worst case of {counted(runs, 'run')} per example{drawn}, n = {len(case.y)}, 95 % interval {at.percent} %"
    if (at.high - at.low) / 2 > _WIDE:
        return Answer(WARN, f"{said}.", "Take more examples: smaller differences show nothing.")
    return Answer(PASS, f"{said}.")


def broader_threats(case: Case) -> Answer:
    """Turns, shifts and noise: no part of the threat model, and the first thing that happens to a picture."""
    if not case.broader:
        return Answer(
            UNKNOWN, "Turns, shifts and noise are outside the threat model and were not asked for (--broader)."
        )
    noise = Rng.of(case.seed, identify(case.x)).fold("noise").normal(*case.x.shape[1:], dtype=case.x.dtype)
    tried = {
        "turns to 30 degrees": [_moved(case.x, turn=turn) for turn in _TURNS],
        "shifts of a tenth": [_moved(case.x, shift=shift) for shift in _SHIFTS],
        f"noise of sigma {_SIGMA}": [(case.x + _SIGMA * noise).clamp(0, 1)],
    }
    clean = case.total / len(case.y)
    accuracy = {}
    for name, pictures in tried.items():
        # The clean picture is one of each: nothing turned, shifted or added.
        right = case.correct & torch.stack([case.judge(x).argmax(1) == case.y for x in pictures]).all(0)
        accuracy[name] = float(right.double().mean())
    said = "Worst case per example: " + ", ".join(f"{percent(value)} under {name}" for name, value in accuracy.items())
    if min(accuracy.values()) < clean / 2:
        return Answer(WARN, f"{said}; clean {percent(clean)}.", "Say that robustness is claimed for the ball alone.")
    return Answer(PASS, f"{said}; clean {percent(clean)}.")


def same_seed_same_result(case: Case) -> Answer:
    """The same attack twice, to the bit; versions, model and data are recorded by their hashes."""
    said = f"model {hashes(case)['model']}, data {hashes(case)['data']}, code {code_version()}, seed {case.seed}"
    said = f"{said}, torch {circumstances()['torch']}"
    if case.unsteady:
        return Answer(WARN, f"{said}; it draws, so only a whole run can be repeated.", "Let draws hang on the picture.")
    if case.gradients.margin is None:
        return Answer(UNKNOWN, f"No gradient, so no attack to repeat; {said}.")
    where = case.correct.nonzero().squeeze(1)[:_FEW]
    made = [torch.zeros_like(case.x[where]) for _ in range(2)]
    for place in made:

        def collect(finished: Finished, place: Tensor = place) -> None:
            place[finished.example.cpu()] = finished.x_adv.to(place)

        source = Source(lambda indices: case.x[where[list(indices)]], Untargeted(case.y[where]))
        run = Run(case.plain(CrossEntropy()), case.passes, source, seed=case.seed)
        run.go(collect)
        case.forwards, case.backwards = (
            case.forwards + int(run.forwards.sum()),
            case.backwards + int(run.backwards.sum()),
        )
    apart = int((made[0] != made[1]).flatten(1).any(1).sum())
    if apart > LUCK * len(where):
        advice = "Something outside the seed decides: a kernel that is not deterministic, or a state in the model."
        return Answer(WARN, f"{of(apart, len(where)).capitalize()} differ the second time; {said}.", advice)
    return Answer(PASS, f"PGD twice on {len(where)} pictures gave the same; {said}.")


def hashes(case: Case) -> dict[str, str]:
    """What names the model's weights and the data, 12 letters each."""

    def compute() -> dict[str, str]:
        digest = hashlib.sha256(type(case.model).__name__.encode())
        for name, tensor in case.model.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        data = (
            case.data.fingerprint() if case.data is not None else hashlib.sha256(case.x.numpy().tobytes()).hexdigest()
        )
        return {"model": digest.hexdigest()[:12], "data": data[:12]}

    return case.once("hashes", compute)


def _moved(x: Tensor, turn: float = 0.0, shift: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """Pictures (N, C, H, W) turned by degrees and shifted by shares of their size; what comes in at the border repeats it."""
    cosine, sine = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    matrix = torch.tensor([[cosine, -sine, 2 * shift[0]], [sine, cosine, 2 * shift[1]]], dtype=x.dtype)
    grid = F.affine_grid(matrix.expand(len(x), 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False).clamp(0, 1)
