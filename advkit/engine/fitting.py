"""Fitting what is one for many pictures, on pictures that it will not be scored on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from advkit.atomic import put_first, put_whole
from advkit.catalog import ATTACKS, LOSSES
from advkit.core.fitted import Applied, Fitted
from advkit.core.goal import Goal, Targeted, Untargeted
from advkit.core.losses import Loss
from advkit.core.modes import borrowed
from advkit.core.rng import Rng, identify
from advkit.core.threat import BALLS
from advkit.data import Data, Subset, load_data
from advkit.documents import MISFIT, parse_json, reason
from advkit.engine.examples import Progress
from advkit.engine.passes import Passes, batch_for
from advkit.engine.precision import PrecisionName, choose_precision
from advkit.engine.targets import choose_targets
from advkit.errors import DataError, InputError
from advkit.paths import expanded
from advkit.seal import sealed_json, sealed_tensors

__all__ = ["check_fit", "fit", "fit_for", "fit_with", "load_fitted", "save_fitted", "training_pictures"]

_LEAST = 8  # pictures, below which a fit says nothing
_FILE = ".safetensors"


def fit(
    attack: Fitted,
    model: nn.Module,
    data: str | Data | tuple[Tensor, Tensor],
    *,
    target: str | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    precision: PrecisionName = "auto",
    progress: Progress | None = None,
) -> Applied:
    """Fit an attack on pictures ``data`` and labels: what comes back is an attack like any other, to be run on others.

    ``target`` is a class or a rule, as for ``evaluate``; the same seed gives the same thing. The model comes back as it was.
    """
    source = load_data(data)
    with borrowed(model):
        trial = source.pictures(range(min(len(source), _LEAST)))
        size = batch_size or batch_for(model, trial[0])
        passes = Passes(model, choose_precision(precision, model, trial), size)
        return fit_with(attack, passes, source, source.classes, target, seed, progress)


def fit_with(
    attack: Fitted,
    passes: Passes,
    source: Data,
    names: Sequence[str],
    target: str | None,
    seed: int,
    progress: Progress | None,
) -> Applied:
    """The same with passes of a borrowed model, on all of ``source``."""
    kept, goal = _goal(attack, passes, source, names, target, seed)
    x = torch.cat([source.pictures(part.tolist()) for part in torch.split(kept, passes.batch_size)])
    own = Rng.of(seed, torch.zeros(1, dtype=torch.long, device=passes.device)).fold("fit")
    state = attack.begin(x[:1].to(passes.device), own)
    count = min(attack.batch, len(kept))
    for step in range(attack.steps):
        index = _batch(step, count, len(kept), seed)
        shown_to = x[index].to(passes.device)
        draws = Rng.of(seed, identify(shown_to)).fold("fit").fold(step)
        with torch.enable_grad():
            thing = state.thing.detach().requires_grad_()
            worn = attack.worn(thing, shown_to, draws)
            at = passes.gradient(
                worn.detach(), goal.take(index).to(passes.device), attack.loss, lambda points, _: points
            )
            # What the model says of the pictures is carried back to the thing; nothing is left over from other steps.
            (grad,) = torch.autograd.grad(worn, thing, at.grad)
        state = attack.improved(state, grad / len(index))
        if progress is not None:
            progress(step + 1, attack.steps)
    return attack.applied(state.thing)


def fit_for(
    attack: Fitted,
    passes: Passes,
    scored: Data,
    names: Sequence[str],
    target: str | None,
    seed: int,
    progress: Progress | None,
) -> Applied:
    """Fit an attack that is to be scored on ``scored``; where ``fitted_on`` names a file of ``save_fitted``, take that."""
    if attack.fitted_on.endswith(_FILE):
        return _from_file(attack)
    return fit_with(attack, passes, training_pictures(attack, scored, seed), names, target, seed, progress)


def check_fit(attack: Fitted, scored: Data, seed: int) -> None:
    """Raise InputError where an attack that is to be scored on ``scored`` could not be fitted."""
    if attack.fitted_on.endswith(_FILE):
        _from_file(attack)
    else:
        training_pictures(attack, scored, seed)


def _from_file(attack: Fitted) -> Applied:
    found = load_fitted(expanded(attack.fitted_on))
    if type(found.by) is not type(attack):
        raise InputError(
            f"{attack.fitted_on} was fitted by {ATTACKS.name_of(found.by)}, not by {ATTACKS.name_of(attack)}; name that attack."
        )
    return replace(found, threat=attack.threat, restarts=attack.restarts)


def training_pictures(attack: Fitted, scored: Data, seed: int) -> Data:
    """What an attack is fitted on when it is scored on ``scored``: other pictures, in an order drawn by the seed.

    Those of the data set that ``fitted_on`` names; else those of the data's training split; else those of the second half
    of the data, the same ones however many of the first half are scored.
    """
    what = type(attack).__name__
    if attack.fitted_on != "auto":
        found = load_data(attack.fitted_on)
        if found.shape != scored.shape:
            raise InputError(
                f"{what}: {attack.fitted_on} has pictures of {found.shape} and {scored.name} of {scored.shape}, (channels, "
                "height, width); fit on pictures of the size of those that are scored."
            )
        pool = range(len(found))
        if found.fingerprint() == _root(scored)[0].fingerprint():
            raise InputError(
                f"{what}: {attack.fitted_on} are the pictures that it is scored on; name others, or leave fitted_on out."
            )
    elif (training := scored.training()) is not None:
        found, pool = training, range(len(training))
    else:
        found, used = _root(scored)
        pool = range(len(found) // 2, len(found))
        if len(pool) < _LEAST or (used and max(used) >= pool.start):
            fewer = f"at most {pool.start:,} samples, or " if len(pool) >= _LEAST else ""
            raise DataError(
                f"{what} is fitted on other pictures than those it is scored on. {found.name} has no training split, so the "
                f"second half of its {len(found):,} picture{'s' if len(found) > 1 else ''} is for the fit, and {len(used):,} "
                f"are to be scored: give {fewer}other pictures for the fit (--set fitted_on=NAME or PATH)."
            )
    order = Rng.of(seed, torch.tensor(pool)).fold("fitted on").uniform(dtype=torch.float64).argsort(stable=True)
    # More than are wanted: those that the model gets wrong are left out.
    return Subset(found, [pool[place] for place in order[: 2 * attack.pictures].tolist()])


def _root(data: Data) -> tuple[Data, list[int]]:
    """The data set that subsets were taken of, and the places in it of what is left."""
    indices = list(range(len(data)))
    while isinstance(data, Subset):
        indices = [data.indices[i] for i in indices]
        data = data.data
    return data, indices


def _goal(
    attack: Fitted, passes: Passes, source: Data, names: Sequence[str], target: str | None, seed: int
) -> tuple[Tensor, Goal]:
    """Of the pictures, the first so many that the model gets right, (n,) places, and what is wanted of them."""
    kept: list[Tensor] = []
    classes: list[Tensor] = []
    left = attack.pictures
    for part in torch.split(torch.arange(len(source)), passes.batch_size):
        x = source.pictures(part.tolist()).to(passes.device)
        labels, logits = source.labels[part], passes.judge(x).cpu()
        aims = labels
        if target is not None:
            aims = choose_targets(target, labels, logits, Rng.of(seed, identify(x.cpu())), names)
        fits = ((logits.argmax(1) == labels) & ((aims != labels) | (target is None))).nonzero().squeeze(1)[:left]
        kept.append(part[fits])
        classes.append(aims[fits])
        left -= len(fits)
        if not left:
            break
    found = torch.cat(kept)
    if len(found) < _LEAST:
        other = "" if target is None else " and that are not of the target's class"
        raise DataError(
            f"{type(attack).__name__} is fitted on pictures that the model gets right{other}, and of {len(source)} of "
            f"{source.name} there are {len(found)}; give at least {_LEAST}."
        )
    return found, Untargeted(torch.cat(classes)) if target is None else Targeted(torch.cat(classes))


def _batch(step: int, count: int, size: int, seed: int) -> Tensor:
    """(count,) places of a step's pictures: every picture once in each round, in an order of the round's own."""
    begin = step * count
    found: list[Tensor] = []
    while len(found) == 0 or sum(map(len, found)) < count:
        done = begin + sum(map(len, found))
        draws = Rng.of(seed, torch.arange(size)).fold("round").fold(done // size).uniform(dtype=torch.float64)
        found.append(draws.argsort(stable=True)[done % size :])
    return torch.cat(found)[:count]


def save_fitted(applied: Applied, path: Path, *, first: bool = False) -> None:
    """Write what was fitted as a ``.safetensors`` file, whose header says by what, and the same facts as JSON beside it.

    ``first``: unless there is one already, which then stays.
    """
    from safetensors.torch import save

    if path.suffix != _FILE:
        raise InputError(f"{path} is to hold what was fitted; give a name that ends in .safetensors.")
    facts = _facts(applied)
    put = put_first if first else put_whole
    put(path.with_suffix(".json"), sealed_json(facts, indent=None))
    put(path, sealed_tensors(save, {"thing": applied.thing.contiguous()}, {"advkit fitted": json.dumps(facts)}))


def load_fitted(path: Path) -> Applied:
    """What ``save_fitted`` wrote. Raises InputError for a file that is none of it, or is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            facts = parse_json((file.metadata() or {})["advkit fitted"], path)
            thing: Tensor = file.get_tensor("thing")
        settings = dict(facts["settings"])
        norm, eps = settings.pop("threat")
        restarts = int(facts["restarts"])
        loss: Loss = LOSSES.create(settings.pop("loss"))
        made = ATTACKS.create(facts["attack"], threat=BALLS[norm](eps), loss=loss, **settings)
    except (OSError, SafetensorError, *MISFIT) as error:
        raise InputError(
            f"{path} holds nothing that advkit fitted ({reason(error)}); give a file of save_fitted."
        ) from None
    if not isinstance(made, Fitted):
        raise InputError(f"{path} names the attack {facts['attack']}, which is not fitted.")
    found = Applied(made.threat, made, thing, restarts)
    if found.digest != facts.get("digest", found.digest):
        raise InputError(f"{path} is damaged: its numbers are not those that were written; fit again.")
    return found


def _facts(applied: Applied) -> dict[str, object]:
    by = applied.by
    settings: dict[str, object] = {}
    for each in fields(by):  # type: ignore[arg-type]
        value = getattr(by, each.name)
        if each.name == "threat":
            value = [by.threat.norm, by.threat.eps.exact]
        elif isinstance(value, Loss):
            value = LOSSES.name_of(value)
        if each.init:
            settings[each.name] = value
    return {
        "attack": ATTACKS.name_of(by),
        "settings": settings,
        "restarts": applied.restarts,
        "digest": applied.digest,
        "shape": list(applied.thing.shape),
    }
