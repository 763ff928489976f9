"""Certify the examples of a data set, some at a time, and keep each that is done; then attack inside the certificates."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from advkit.backbones import Classifier
from advkit.catalog import ATTACKS, DEFENSES
from advkit.core.defense import Certificate, Certifier
from advkit.core.modes import borrowed, reseeded
from advkit.core.rng import Rng, identify
from advkit.core.threat import BALLS, Ball, Linf
from advkit.data import Data
from advkit.engine.checks import check_labels, check_weights
from advkit.engine.defend import Defense, build_certifier, defend, read_defense
from advkit.engine.examples import Progress
from advkit.engine.memory import asked_in_part
from advkit.engine.own import contents, defined_by
from advkit.engine.passes import Passes, automatic_batch, device_of
from advkit.engine.precision import Precision
from advkit.engine.provenance import code_version
from advkit.engine.specs import AttackSpec
from advkit.errors import InputError
from advkit.results.certificate_store import CertificateStore
from advkit.results.certificates import Certificates, Certification
from advkit.trust import Trust

__all__ = ["Inside", "Violation", "attack_inside", "certify", "read_attack"]

_SECONDS = 5.0  # of work that an interruption may cost, about
_MOST = 512  # examples at a time
_INSIDE = 1 - 1e-6  # of a radius: a certificate is of everything nearer than it
_DRAWS = (1_000, 20_000)  # for a point, and for one that the first do not clear
_SQUARES = 2  # places at which a patch is tried
_TOGETHER = 16  # examples whose points are judged in the same passes


def certify(
    model: nn.Module,
    data: Data,
    by: str | Certifier = "smoothing",
    *,
    defense: str | Defense = "none",
    samples: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    folder: Path | None = None,
    progress: Progress | None = None,
    part: Callable[[Certification], None] = lambda found: None,
) -> Certification:
    """A certificate for each of the first ``samples`` examples (all where None), of ``model`` behind ``defense``.

    With a ``folder``, what is done is kept there example by example, and not done again; ``part`` gets the certification so
    far each time some are. The certificate of an example depends on nothing but itself, the model, the certifier and the
    seed. The model comes back as it was. Raises InputError for input that cannot be used.
    """
    certifier = build_certifier(by) if isinstance(by, str) else by
    guard = read_defense(defense, Trust.of(defense)) if isinstance(defense, str) else defense
    source = data.head(samples)
    check_weights(model)
    net = model if isinstance(model, Classifier) else Classifier(model, name=type(model).__name__)
    if net.num_classes is not None:
        check_labels(source, net.num_classes)
    store = None
    if folder is not None:
        store = CertificateStore(folder, _setting(net, data, certifier, guard, seed)).create()
        store.begin(len(source))
    loop = _Loop(defend(net, guard.wrappers), source, certifier, seed, batch_size)
    done: list[Certificates] = [] if store is None else [store.facts(len(source))]
    found = Certification(
        model=net.name,
        weights=net.weights,
        defense=guard.text,
        data=data.name,
        by=DEFENSES.name_of(certifier),
        settings=repr(certifier),
        norm=certifier.norm,
        seed=seed,
        values=source.pictures([0])[0].numel(),
        facts=Certificates.joined(done),
        samples=len(source),
        asked=tuple(sorted(certifier.radii)),
    )
    if len(found):
        part(found)
    if progress is not None:
        progress(len(found), len(source))
    with borrowed(model):
        for begin, end in [(0, len(source))] if store is None else store.missing(len(source)):
            for facts in loop.over(begin, end):
                if store is not None:
                    store.write(facts)
                done.append(facts)
                found = replace(found, facts=Certificates.joined(done))
                part(found)
                if progress is not None:
                    progress(len(found), len(source))
    if store is not None:
        store.finish()
    return found


@dataclass
class _Loop:
    """Certificates of a stretch of examples, as many at a time as take a few seconds."""

    model: nn.Module
    data: Data
    certifier: Certifier
    seed: int
    batch_size: int | None
    at_once: int = 1
    seen: bool = False

    def over(self, begin: int, end: int) -> Iterator[Certificates]:
        """Facts, in the order of the data."""
        if begin < end and not self.seen:
            self._look()
        while begin < end:
            stop = min(end, begin + self.at_once)
            facts = self._facts(begin, stop)
            if facts.seconds > _SECONDS:
                self.at_once = max(1, self.at_once // 2)
            elif stop - begin == self.at_once and facts.seconds < _SECONDS / 2:
                self.at_once = min(_MOST, self.at_once * 2)
            begin = stop
            yield facts

    def _look(self) -> None:
        """Whether the model answers with scores at all: certifiers only compare them."""
        device = device_of(self.model)
        with reseeded(self.seed, device):
            answer = Passes(self.model, Precision.own(self.model), 1).judge(self.data.pictures([0]).to(device))
        check_labels(self.data, answer.shape[1])
        self.seen = True

    def _facts(self, begin: int, end: int) -> Certificates:
        began = time.perf_counter()
        x = self.data.pictures(range(begin, end)).to(device_of(self.model))
        certificate = self._certificate(x)
        prediction, label = certificate.prediction.cpu().numpy(), self.data.labels[begin:end].numpy()
        return Certificates(
            index=np.arange(begin, end),
            label=np.where(label < 0, prediction, label),  # unknown: what is certain is that the answer stays
            prediction=prediction,
            radius=certificate.radius.double().cpu().numpy(),
            forwards=certificate.forwards.cpu().numpy(),
            seconds=time.perf_counter() - began,
        )

    def _certificate(self, x: Tensor) -> Certificate:
        """Halves its passes where memory runs out."""
        if self.batch_size is None:
            self.batch_size = automatic_batch(x[0].numel(), x.device)
        rng = Rng.of(self.seed, identify(x)).fold("certify")

        def certified(count: int) -> Certificate:
            self.batch_size = count  # kept for the examples that follow
            return self.certifier.certify(self.model, x, rng, count)

        return asked_in_part(certified, self.batch_size)


def _setting(net: Classifier, data: Data, certifier: Certifier, guard: Defense, seed: int) -> dict[str, Any]:
    """All that decides a certificate."""
    return {
        "model": net.name,
        "model_hash": net.fingerprint(),
        "data": data.name,
        "data_hash": data.fingerprint(),
        "defense": [contents(wrapper) for wrapper in guard.wrappers],
        "certifier": repr(certifier),
        "seed": seed,
        "device": device_of(net).type,  # whose generator draws the noise
        "code": code_version([type(certifier), *map(defined_by, guard.wrappers)]),
    }


# ---------------------------------------------------------------------- attacks inside the certificates


@dataclass(frozen=True)
class Violation:
    """A point inside a certificate where the certified model surely answers otherwise."""

    index: int
    attack: str
    radius: float
    prediction: int  # certified
    answer: int


@dataclass(frozen=True)
class Inside:
    """What attacks inside certificates came to."""

    examples: int
    points: int
    violations: tuple[Violation, ...]


def read_attack(text: str) -> AttackSpec:
    """An attack by name and settings: ``pgd``, ``pgd:steps=10,restarts=2``. Raises InputError for none."""
    name, _, settings = text.partition(":")
    ATTACKS[name]
    given = [part.partition("=") for part in settings.split(",") if part]
    if not all(equals for _, equals, _ in given):
        raise InputError(f"the attack is {text!r}; write its settings as {name}:KEY=VALUE, with commas.")
    return AttackSpec(name, tuple((key.replace("-", "_"), value) for key, _, value in given))


def attack_inside(
    model: nn.Module,
    data: Data,
    found: Certification,
    by: Certifier,
    *,
    defense: str | Defense = "none",
    attacks: Sequence[str] = ("pgd",),
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Inside:
    """Attack every certified example of ``found`` just inside its own radius, and judge the certified model's answers.

    Tried are each attack on what ``by`` says is to be searched (of smoothing, the mean over draws), and random points. A
    violation is an answer of another class. Where answers are drawn, the draws are others than those of certificate and
    search, and over all points together a sound certificate is called violated with a probability of 0.001 at most.
    """
    specs = [read_attack(text) for text in attacks]
    guard = read_defense(defense, Trust.of(defense)) if isinstance(defense, str) else defense
    defended = defend(model, guard.wrappers)
    device = device_of(model)
    facts = found.facts
    certain = np.flatnonzero((facts.prediction >= 0) & (facts.radius > 0))
    points, violations = 0, []
    with borrowed(model):
        searched = by.searched(defended)
        # Each point is looked at twice at most.
        alpha = 0.001 / max(1, 2 * len(certain) * _points_each(specs, found.norm))
        judges = [by.sharpened(alpha, draws) for draws in _DRAWS]
        for begin in range(0, len(certain), _TOGETHER):
            rows = certain[begin : begin + _TOGETHER]
            tried: list[tuple[int, str, Tensor]] = []
            for row in rows:
                x = data.pictures([int(facts.index[row])]).to(device)
                aim = torch.tensor([int(facts.prediction[row])], device=device)
                near = _near(searched, x, aim, float(facts.radius[row]), found.norm, specs, found.seed)
                tried += [(int(row), name, point) for name, point in near]
            points += len(tried)
            x_adv = torch.cat([point for _, _, point in tried])
            expected = torch.tensor([int(facts.prediction[row]) for row, _, _ in tried], device=device)
            size = batch_size or automatic_batch(x_adv[0].numel(), device)
            answers = _judged(judges, defended, x_adv, expected, size, found.seed)
            for (row, name, _), answer in zip(tried, answers.tolist(), strict=True):
                if answer not in (-1, int(facts.prediction[row])):
                    place, radius = int(facts.index[row]), float(facts.radius[row])
                    violations.append(Violation(place, name, radius, int(facts.prediction[row]), answer))
            if progress is not None:
                progress(begin + len(rows), len(certain))
    return Inside(len(certain), points, tuple(violations))


def _judged(
    judges: Sequence[Certifier], model: nn.Module, x: Tensor, expected: Tensor, batch_size: int, seed: int
) -> Tensor:
    """(B,) the certified model's answers; where the first judge does not get what is expected or another class, the next's."""
    answers = torch.full_like(expected, -1)
    for number, judge in enumerate(judges):
        open_ = (answers == -1).nonzero().squeeze(1)
        if len(open_):
            rng = Rng.of(seed, identify(x[open_])).fold("check").fold(number)
            answers[open_] = judge.predict(model, x[open_], rng, batch_size)
    return answers


def _points_each(specs: Sequence[AttackSpec], norm: str) -> int:
    """How many points are tried for one example."""
    stages = sum(len(spec.stages(_ball(norm, 1e-3))) for spec in specs)
    return (stages + 1) * (_SQUARES if norm == "patch" else 1)


def _near(
    searched: nn.Module, x: Tensor, aim: Tensor, radius: float, norm: str, specs: Sequence[AttackSpec], seed: int
) -> list[tuple[str, Tensor]]:
    """Points inside the radius of one example x (1, ...), by name of what found them."""
    rng = Rng.of(seed, identify(x)).fold("inside")
    if norm == "patch":
        squares = [_square(x, int(radius), rng.fold(number)) for number in range(_SQUARES)]
        return [each for mask in squares for each in _tried(searched, x, aim, _ball(norm, 1), mask, specs, rng)]
    return _tried(searched, x, aim, _ball(norm, radius * _INSIDE), torch.ones_like(x, dtype=torch.bool), specs, rng)


def _tried(
    searched: nn.Module, x: Tensor, aim: Tensor, ball: Ball, free: Tensor, specs: Sequence[AttackSpec], rng: Rng
) -> list[tuple[str, Tensor]]:
    """Where each attack ends that may change the ``free`` values only, and a random point."""
    module = searched if bool(free.all()) else _Within(searched, x, free)
    stages = [stage for spec in specs for stage in spec.stages(ball)]
    ends = [(name, attack(module, x, aim, seed=int(rng.keys[0]) & 0xFFFFFFFF)) for name, attack in stages]
    ends.append(("random", ball.random_point(x, rng.fold("random"))))
    return [(name, torch.where(free, point, x)) for name, point in ends]


class _Within(nn.Module):
    """A model that is shown ``x`` (1, ...) except where values are free."""

    def __init__(self, model: nn.Module, x: Tensor, free: Tensor) -> None:
        super().__init__()
        self.model, self.x, self.free = model, x, free

    def forward(self, points: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.model(torch.where(self.free, points, self.x))
        return logits


def _ball(norm: str, radius: float) -> Ball:
    """Of a patch, everything: where it may be is another matter."""
    return Linf(1) if norm == "patch" else BALLS[norm](radius)


def _square(x: Tensor, side: int, rng: Rng) -> Tensor:
    """Which values a square of this side may change, somewhere in the picture."""
    height, width = x.shape[2:]
    side = min(side, height, width)
    top = int(rng.fold("top").integers(height - side + 1))
    left = int(rng.fold("left").integers(width - side + 1))
    free = torch.zeros_like(x, dtype=torch.bool)
    free[:, :, top : top + side, left : left + side] = True
    return free
