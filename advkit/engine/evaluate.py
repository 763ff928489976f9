"""Evaluate a model: accuracy without attack first, then each attack on what it can still change."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import Literal

import torch
from torch import Tensor, nn

from advkit.backbones import Classifier, load_model
from advkit.backbones.given import as_module
from advkit.core.answers import called
from advkit.core.attack import Attack
from advkit.core.defense import RandomWrapper, Wrapper
from advkit.core.fitted import Fitted
from advkit.core.goal import Goal, Targeted, Untargeted
from advkit.core.modes import borrowed, reseeded
from advkit.core.rng import Rng, identify
from advkit.data import Data, load_data
from advkit.engine.checks import check_classes, check_weights
from advkit.engine.defend import Against, Defense, defend, read_defense
from advkit.engine.doubts import Met, find_doubts
from advkit.engine.examples import Progress
from advkit.engine.fitting import check_fit
from advkit.engine.passes import Passes, batch_for, device_of
from advkit.engine.precision import Precision, PrecisionName, choose_precision
from advkit.engine.repeats import Repeats
from advkit.engine.stages import Attacks, Observer, replayed, run_minimal, run_stage, stages_of, unbounded
from advkit.engine.targets import choose_targets
from advkit.errors import DataError, InputError, ModelError
from advkit.registry import Checked
from advkit.results.cell import oblivious, via
from advkit.results.outcome import Evaluation, Outcome, Surrogate
from advkit.results.statistics import Share, share
from advkit.trust import Trust

__all__ = ["accuracy", "evaluate", "without_attack"]


def evaluate(
    model: str | nn.Module | Callable[[Tensor], Tensor],
    data: str | Data | tuple[Tensor, Tensor],
    attacks: Attacks = "standard",
    *,
    samples: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    target: str | int | None = None,
    survivors: bool = False,
    keep: Literal["first", "best"] = "first",
    precision: PrecisionName = "auto",
    defense: str | Defense | Wrapper | Sequence[Wrapper] = "none",
    bare: nn.Module | None = None,
    against: Against = "both",
    surrogate: str | nn.Module | None = None,
    eot: int = 1,
    repeats: int = 1,
    doubts: bool = True,
    observer: Observer | None = None,
) -> Evaluation:
    """Accuracy without attack and under each attack, with the facts of every example (N,).

    ``model`` is any module on pictures in [0, 1] that answers (B, K) logits, or a name for ``load_model``; ``data`` a data
    set, a pair of tensors (N, C, H, W) and (N,), or a name for ``load_data``; ``attacks`` values, registry names, or a
    mapping that names them. Every attack meets all examples that the model gets right; the stages of an ensemble, and with
    ``survivors`` all attacks, meet what the former left standing. ``target`` makes the goal targeted: ``next``, ``random``,
    ``least-likely`` or a class. A negative label is unknown: the model's own answer takes its place.
    ``defense`` stands in front of the model: ``jpeg:75``, a chain ``bits:4+median:3``, ``file.py:Name``, or wrappers; or it
    names how the weights that ship with a named model were trained (``pgd-at``). It is
    attacked twice, and ``against`` may choose one: oblivious, with what was made on the ``bare`` model (the model without
    the defense, where none is given) and is replayed; and adaptive, the attack working on the defended model itself.
    With a ``surrogate``, a module or a name for ``load_model``, attacks are made on that model instead, and the best that
    each comes to there is shown to the model once.

    An example stops at its ``first`` success, or takes all steps for the ``best`` (highest loss), at the price of speed.

    Of a model that draws, ``eot`` K makes every gradient and score that an attack is told the mean over K draws; with
    ``repeats`` K a verdict is that of the mean probabilities of K calls, and what comes of it, with the clean pictures, is
    judged K times more, for a mean with its interval. The global generators start from ``seed`` and come back as they were.
    ``doubts`` asks whether the numbers are to be believed, at a small part of the attacks' price; it needs the attacks over.

    Verdicts are the caller's own model's, whatever ``precision`` steers the search. The model comes back as it was. After
    Ctrl-C (KeyboardInterrupt) what was finished has reached the observer. Raises InputError for input that cannot be used.
    """
    _Given(samples, batch_size, seed, target, keep, precision, bare, against, surrogate, eot, repeats, observer)
    observer, target = observer or Observer(), None if target is None else str(target)
    source = load_data(data).head(samples)
    guard = _defense(defense)
    if isinstance(model, str):
        net: nn.Module = load_model(model, data=source)
        if guard.trained:
            net, bare = load_model(model, weights=guard.trained, data=source), bare or net
    else:
        net = as_module(model)
        if guard.trained and not isinstance(defense, Defense):
            guard.in_front()  # refused: a way to train does not defend a model that is given
    undefended = (bare or net) if guard.wrappers or bare is not None else None
    plans = stages_of(attacks, survivors)
    other = None if surrogate is None else _surrogate(surrogate, net, guard, against, source)
    if other is not None:
        plans = [replayed(plan, partial(via, surrogate=other[0])) for plan in plans]
    elif undefended is not None and against != "adaptive":
        replays = [replayed(plan, oblivious) for plan in plans]
        plans = replays if against == "oblivious" else [*replays, *plans]
    for plan in plans:
        if isinstance(plan.attack, Fitted):
            check_fit(plan.attack, source, seed)  # before the other attacks have run
    check_weights(net)
    draws = _Draws(eot, repeats, any(isinstance(wrapper, RandomWrapper) for wrapper in guard.wrappers))
    named, net = net, defend(net, draws.declared(guard.wrappers))
    size = _batch_size(batch_size, net, source)
    names = _names(named, source)
    with borrowed(net), _if_any(bare), _if_any(other[1] if other else None), reseeded(seed, device_of(net)):
        own = Passes(net, Precision.own(net), size, verdicts=draws.verdicts)
        with observer.stage("clean") as progress:
            labels, clean, goal = without_attack(own, source, names, target, seed, progress)
        size = own.batch_size  # what found room in memory
        if own.writes:  # from here on it is asked on copies
            named = Classifier(named, name=called(named), writes=True).to(own.device).eval()
            net = defend(named, draws.declared(guard.wrappers))
            own = Passes(net, Precision.own(net), size, verdicts=draws.verdicts)
        trial = source.pictures(range(min(len(source), 8, size))).to(own.device)
        steering = choose_precision(precision, net, trial)
        steered = Passes(net, steering, size, eot=draws.told, verdicts=draws.verdicts)
        again = Repeats(net, repeats, size, labels) if repeats > 1 else None
        if again is not None:
            observer = replace(observer, finished=again.listening(observer.finished))
        before, known, theirs = None, None, None
        if undefended is not None:
            theirs = Passes(undefended, choose_precision(precision, undefended, trial), size)
            _, answers, _ = without_attack(theirs, source, names, None, seed, None)
            before = share(int((answers == labels).sum()), len(source))
        if other is not None:
            theirs = Passes(other[1], choose_precision(precision, other[1], trial), size)
            known = _known(other[0], theirs, own, source, names, labels, seed)
        result = Evaluation(
            model=named.name if isinstance(named, Classifier) else type(named).__name__,
            weights=named.weights if isinstance(named, Classifier) else "caller's",
            defense=guard.text,
            undefended=before,
            data=source.name,
            norm=plans[0].attack.threat.norm,
            seed=seed,
            device=str(own.device),
            precision=steered.precision.name,
            classes=names,
            labels=labels,
            clean=clean,
            outcomes=(),
            goal=target or "untargeted",
            targets=goal.classes if isinstance(goal, Targeted) else None,
            facts=_facts(),
            surrogate=known,
            repeated=None if again is None else again.clean(source),
        )
        observer.row(result)
        at_all_radii: dict[Attack, Outcome] = {}
        for plan in plans:
            if plan.minimal and plan.attack not in at_all_radii:
                family = [other for other in plans if other.minimal and unbounded(other) == unbounded(plan)]
                at_all_radii |= run_minimal(family, result, steered, source, goal, observer)
            outcome = at_all_radii.get(plan.attack) if plan.minimal else None
            if outcome is None:
                outcome = run_stage(plan, result, steered, theirs, source, goal, keep, observer)
            if again is not None:
                outcome = replace(outcome, repeated=again.of(f"{outcome.name}@{outcome.threat.eps.exact}"))
            result = replace(result, outcomes=(*result.outcomes, outcome))
            observer.row(result)
        pairs = zip(plans, result.outcomes, strict=True)
        met = [Met(p.attack, o, p.replayed) for p, o in pairs if not p.attack.threat.is_point]
        if doubts and met:
            averaged = eot > 1 and repeats > 1
            found = find_doubts(
                result, met, net, source, batch_size=steered.batch_size, first=keep == "first", told=averaged
            )
            result = replace(result, doubts=found.found, checks=found.checks)
    return result


@dataclass(frozen=True)
class _Given(Checked):
    """Arguments of ``evaluate``, whose types are looked at before anything is loaded."""

    samples: int | None
    batch_size: int | None
    seed: int
    target: str | int | None
    keep: Literal["first", "best"]
    precision: PrecisionName
    bare: nn.Module | None
    against: Against
    surrogate: str | nn.Module | None
    eot: int
    repeats: int
    observer: Observer | None

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed is {self.seed}; give a whole number from 0 to 2^63 - 1.")


@dataclass(frozen=True)
class _Draws:
    """How often a model that draws is asked; ``declares``: it says so by a RandomWrapper, which counts its draws itself."""

    eot: int
    repeats: int
    declares: bool

    def __post_init__(self) -> None:
        for name in ("eot", "repeats"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; give the number of draws, 1 or more.")

    @property
    def told(self) -> int:
        """Calls whose mean an attack is told."""
        return 1 if self.declares else self.eot

    @property
    def verdicts(self) -> int:
        """Calls whose mean is a verdict."""
        return 1 if self.declares else self.repeats

    def declared(self, wrappers: Sequence[Wrapper]) -> tuple[Wrapper, ...]:
        """The wrappers with gradients over so many draws."""
        if self.eot == 1:
            return tuple(wrappers)
        return tuple(replace(w, eot=self.eot) if isinstance(w, RandomWrapper) else w for w in wrappers)


def accuracy(model: nn.Module, data: Data) -> Share:
    """Accuracy without attack, with its interval."""
    with borrowed(model):
        passes = Passes(model, Precision.own(model), _batch_size(None, model, data))
        labels, predictions, _ = without_attack(passes, data, (), None, 0, None)
    return share(int((labels == predictions).sum()), len(data))


def without_attack(
    passes: Passes, data: Data, names: Sequence[str], target: str | None, seed: int, progress: Progress | None
) -> tuple[Tensor, Tensor, Goal]:
    """Labels, predictions (N,) and the goal."""
    labels = data.labels.clone()
    predictions: list[Tensor] = []
    targets: list[Tensor] = []
    for part in torch.split(torch.arange(len(data)), passes.batch_size):
        x = data.pictures(part.tolist()).to(passes.device)
        logits = passes.judge(x)
        if not predictions:
            check_classes(data, logits.shape[1])
        own = logits.argmax(1).cpu()
        labels[part] = torch.where(labels[part] < 0, own, labels[part])
        predictions.append(own)
        if target is not None:
            rng = Rng.of(seed, identify(x.cpu()))
            targets.append(choose_targets(target, labels[part], logits.cpu(), rng, names))
        if progress is not None:
            progress(int(part[-1]) + 1, len(data))
    if target is None:
        return labels, torch.cat(predictions), Untargeted(labels)
    goal = torch.cat(targets)
    same = (goal == labels).nonzero()
    if len(same):
        raise InputError(
            f"the target equals the label in {len(same)} of {len(labels)} examples (the first is example {int(same[0])}); "
            f"an attack has nothing to do there. Choose another target, or leave those examples out (--exclude {target})."
        )
    return labels, torch.cat(predictions), Targeted(goal)


def _surrogate(
    given: str | nn.Module, model: nn.Module, guard: Defense, against: Against, data: Data
) -> tuple[str, nn.Module]:
    """The model that attacks are made on, and its name."""
    if against != "both":
        raise InputError(
            f"{against} says which model a defense's attacks are made on, and a surrogate is another one; give one of the two."
        )
    name = given if isinstance(given, str) else given.name if isinstance(given, Classifier) else type(given).__name__
    try:
        other = load_model(given, data=data) if isinstance(given, str) else given
        check_weights(other)
    except ModelError as error:
        raise ModelError(f"the surrogate {name}: {error}") from None
    name = other.name if isinstance(other, Classifier) else name
    if other is model or _is_same(other, model):
        meant = "name another model" + (", or the oblivious attack alone" if guard.wrappers else "")
        raise InputError(f"the surrogate {name} is the very model that is attacked, with the same weights; {meant}.")
    return name, other


def _if_any(model: nn.Module | None) -> AbstractContextManager[nn.Module | None]:
    return nullcontext(None) if model is None else borrowed(model)


def _is_same(one: nn.Module, other: nn.Module) -> bool:
    return isinstance(one, Classifier) and isinstance(other, Classifier) and one.fingerprint() == other.fingerprint()


def _known(
    name: str, surrogate: Passes, own: Passes, data: Data, names: Sequence[str], labels: Tensor, seed: int
) -> Surrogate:
    """What a table says of the surrogate. Raises ModelError where it does not answer the same question as the model."""
    try:
        _, answers, _ = without_attack(surrogate, data, names, None, seed, None)
    except (DataError, ModelError) as error:
        raise ModelError(f"the surrogate {name}: {error}") from None
    trial = data.pictures([0]).to(own.device)
    theirs, ours = (int(passes.judge(trial).shape[1]) for passes in (surrogate, own))
    if theirs != ours:
        raise ModelError(
            f"the surrogate {name} has {theirs} classes and the model {ours}; a surrogate must tell the same classes apart."
        )
    weights = surrogate.model.weights if isinstance(surrogate.model, Classifier) else "caller's"
    return Surrogate(name, weights, share(int((answers == labels).sum()), len(data)))


def _defense(given: str | Defense | Wrapper | Sequence[Wrapper]) -> Defense:
    """A defense in any form; one that is a Defense has been cared for by whoever loaded the weights."""
    if isinstance(given, Defense):
        return given
    if isinstance(given, str):
        return read_defense(given, Trust.of(given))
    wrappers = (given,) if isinstance(given, Wrapper) else tuple(given) if isinstance(given, list | tuple) else given
    if not isinstance(wrappers, tuple) or not all(isinstance(wrapper, Wrapper) for wrapper in wrappers):
        raise InputError(
            f"the defense was given as {type(given).__name__}; give a text such as jpeg:75, a Wrapper, or a list of Wrappers."
        )
    return Defense("+".join(repr(wrapper) for wrapper in wrappers) or "none", "", wrappers)


def _names(model: nn.Module, data: Data) -> tuple[str, ...]:
    """The names of the classes: the data's, else the model's, else numbers."""
    own = model.classes if isinstance(model, Classifier) else None
    return data.classes if data.named or not own else own


def _batch_size(given: int | None, model: nn.Module, data: Data) -> int:
    if given is None:
        return batch_for(model, data.pictures([0])[0])
    if given < 1:
        raise InputError(f"the batch size is {given}; give 1 or more, or leave it out to have it chosen.")
    return given


def _facts() -> dict[str, str]:
    return {
        "advkit": version("advkit"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": str(torch.get_num_threads()),
    }
