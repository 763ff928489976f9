"""The loop that drives every objective."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from advkit.backbones import Classifier
from advkit.core.defense import Objective, hard
from advkit.core.modes import borrowed
from advkit.core.rng import Rng
from advkit.data import Data
from advkit.data.base import Subset
from advkit.documents import parse_json
from advkit.engine.checks import check_labels
from advkit.engine.passes import Passes, device_of
from advkit.engine.precision import Precision
from advkit.engine.training.augment import Step, augmented, mixed, mixes, read_augmentation
from advkit.engine.training.checkpoint import Saved, check_same, read_checkpoint, write_checkpoint
from advkit.engine.training.interrupt import Pressed, listening
from advkit.engine.training.ranks import ALONE, Ranks, synchronised
from advkit.engine.training.recipe import Recipe, learning_rate
from advkit.engine.training.watch import Epoch, Validate, alarming, ball_of, better, hold_out, robustness
from advkit.errors import AdvkitError, DataError, InputError, ModelError, PassError
from advkit.hashes import sha256

__all__ = ["CHECKPOINT", "Training", "put", "state", "train"]

CHECKPOINT = "checkpoint.safetensors"
_SEEN_TOGETHER = 32  # losses on a GPU are read together: each reading waits for all that was asked of it


@dataclass(frozen=True)
class Training:
    """What became of it: the history, the loss of every step, and the weights of the best and of the last epoch."""

    history: tuple[Epoch, ...]
    losses: tuple[float, ...]
    last: Mapping[str, Tensor] = field(repr=False)
    best: Epoch | None = None  # the epoch whose weights the model holds; None: nothing was held out, it holds the last
    resumed: int = 0  # steps that a checkpoint held already
    stopped: str = ""  # why before its time: patience, alarm


def train(
    model: nn.Module,
    data: Data,
    objective: Objective,
    recipe: Recipe,
    on_epoch: Callable[[Epoch], object] | None = None,
    *,
    validate: Validate | None = None,
    folder: Path | None = None,
    fresh: bool = False,
    checkpoint_every: float = 60.0,
    on_step: Callable[[int, int, float], object] | None = None,
    on_begin: Callable[[int, int, Sequence[Epoch]], object] | None = None,
    ranks: Ranks = ALONE,
    identity: Mapping[str, object] | None = None,
) -> Training:
    """Train ``model`` in place: it ends in eval mode, with the weights of the epoch that was best on examples held out.

    ``validate`` measures a network that is no classifier (and replaces the checks of labels): named scores, of which the first
    decides, higher being better; nothing is then held out of ``data``. With a ``folder``, a checkpoint is written there after
    each epoch and every ``checkpoint_every`` seconds, a training that was broken off goes on from it (unless ``fresh``) to the
    same weights, and Ctrl-C is answered between two steps by one more checkpoint. ``identity`` is what else a checkpoint must
    agree in. ``on_begin`` is told (steps done, steps in all, epochs done), ``on_step`` (steps done, steps in all, loss).
    Raises AdvkitError where the loss stops being a number, InputError for a checkpoint of another training, WriteError.
    """
    with listening(folder is not None) as pressed:
        session = _Session.begin(model, data, objective, recipe, validate, ranks, pressed)
        if folder is not None:
            session.keep_at(folder / CHECKPOINT, checkpoint_every, fresh, identity or {})
        if on_begin is not None:
            on_begin(session.step, session.total, tuple(session.history))
        loss = _Loss(model, objective)
        with synchronised(model, ranks), session.loading():
            wrapped = _together(loss) if ranks.world > 1 else loss
            while not session.over:
                session.one_epoch(loss, wrapped, on_step)
                epoch = session.end_epoch()
                session.save()
                if on_epoch is not None:
                    on_epoch(epoch)
        return session.result()


class _Loss(nn.Module):
    """The objective as a module, so that DistributedDataParallel sees one forward for each backward."""

    def __init__(self, net: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.net, self.objective = net, objective

    def forward(self, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        return self.objective.loss(self.net, x, shown, y)


def _asked(wrapped: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
    """The loss; says in plain words what keeps several processes from agreeing on a gradient."""
    try:
        loss: Tensor = wrapped(x, shown, y)
    except RuntimeError as error:
        if "finished reduction in the prior iteration" not in str(error):
            raise
        raise ModelError(
            "the network has parameters that the loss does not reach, for which the processes of torchrun would wait for "
            "ever; freeze them (requires_grad_(False)) or take them out, or train in one process."
        ) from error
    return loss


def _together(loss: _Loss) -> DistributedDataParallel:
    """The processes' gradients averaged; their buffers are equal by themselves (``synchronised``)."""
    known = inspect.signature(DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {name: False}
    return DistributedDataParallel(loss, **options)


@dataclass
class _Session:
    """A training that is under way: what changes from step to step, all of it in a checkpoint, and what does not."""

    model: nn.Module
    data: Data
    objective: Objective
    recipe: Recipe
    validate: Validate | None
    ranks: Ranks
    pressed: Pressed
    classes: int
    optimizer: torch.optim.Optimizer
    augmentation: tuple[Step, ...]
    step: int = 0
    losses: list[float] = field(default_factory=list)
    history: list[Epoch] = field(default_factory=list)
    memory: Tensor | None = None
    average: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    spent: float = 0.0  # seconds of the epoch under way before this session
    resumed: int = 0
    path: Path | None = None
    every: float = math.inf
    identity: dict[str, object] = field(default_factory=dict)
    saved_at: float = 0.0
    begun: float = field(default_factory=time.monotonic)
    unseen: list[Tensor] = field(default_factory=list)
    kept: int = 0  # step of the last checkpoint
    pool: ThreadPoolExecutor | None = None
    ahead: dict[int, Future[Tensor]] = field(default_factory=dict)
    order: tuple[int, Tensor] | None = None  # of the examples, in an epoch

    @classmethod
    def begin(
        cls,
        model: nn.Module,
        data: Data,
        objective: Objective,
        recipe: Recipe,
        validate: Validate | None,
        ranks: Ranks,
        pressed: Pressed,
    ) -> _Session:
        least = max(2, ranks.world)
        held: Data | None = None
        if validate is None:
            _check_classes(model, data)
            shown, kept = hold_out(data, recipe.validation, recipe.seed)
            if len(kept):
                if len(shown) < 2:
                    raise InputError(
                        f"{data.name} has {len(data)} examples, and {len(kept)} are held out; hold out fewer (validation)."
                    )
                held = Subset(data, kept.tolist())
                data = Subset(data, shown.tolist())
        if len(data) < least:
            raise InputError(
                f"{ranks.world} processes share {len(data)} examples; start at most {max(1, len(data))}."
                if ranks.world > 1
                else f"{data.name} has {len(data)} example{'s' * (len(data) != 1)}; training needs at least 2."
            )
        if held is not None:
            ball = ball_of(objective)
            between = pressed.check if ranks.world == 1 else lambda: None
            validate = robustness(held, ball, seed=recipe.seed, ranks=ranks, between=between)
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not trained:
            raise ModelError(
                "the network cannot be trained: none of its weights asks for a gradient; set requires_grad_(True) on those "
                "that are to learn."
            )
        optimizer, steps = _optimizer(recipe, trained), read_augmentation(recipe.augment)
        session = cls(model, data, objective, recipe, validate, ranks, pressed, len(data.classes), optimizer, steps)
        if recipe.ema:
            session.average = _copied(state(model))
        return session

    # What is fixed -------------------------------------------------------------------------------------------------

    @property
    def replays(self) -> int:
        return self.objective.replays

    @property
    def batches(self) -> int:
        """Batches of an epoch: a last one of fewer examples than processes, or of one, is left out."""
        size, count = self.recipe.batch_size * self.ranks.world, len(self.data)
        return count // size + (count % size >= max(2, self.ranks.world))

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return self.batches * self.replays

    @property
    def total(self) -> int:
        return self.recipe.epochs * self.steps

    @property
    def over(self) -> bool:
        return len(self.history) >= self.recipe.epochs or bool(self.stopped)

    @property
    def stopped(self) -> str:
        """Why it stops before its time."""
        recipe, history = self.recipe, self.history
        if recipe.stop_on_alarm and any(epoch.alarm for epoch in history):
            return "alarm"
        since = next((late for late, epoch in enumerate(reversed(history)) if epoch.best), 0)
        return "patience" if recipe.patience and since >= recipe.patience else ""

    # An epoch ------------------------------------------------------------------------------------------------------

    def one_epoch(self, loss: _Loss, wrapped: nn.Module, on_step: Callable[[int, int, float], object] | None) -> None:
        """The steps that are left of this epoch."""
        self.model.train()
        end = (len(self.history) + 1) * self.steps
        while self.step < end:
            batch = self.step // self.replays
            x, y, share = self.batch(batch)
            while self.step < (batch + 1) * self.replays:
                self.unseen.append(self.one_step(wrapped, loss, x, y, share))
                self.step += 1
                self.look(on_step, at_once=self.step == end)

    def one_step(self, wrapped: nn.Module, loss: _Loss, x: Tensor, y: Tensor, share: float) -> Tensor:
        """One step of the optimiser; the loss, weighed by this process's share of the batch."""
        recipe = self.recipe
        objective = loss.objective = self.objective.at(self.step / self.total)
        stream = Rng.of(recipe.seed, torch.tensor([self.step])).fold("step")
        seed, own = _number(stream), _number(stream.fold(self.ranks.rank + 1))
        memory = self.memory if self.memory is not None and len(self.memory) == len(x) else None
        # As many parts in every process, though one may have an example less: BatchNorm waits for all in each of them.
        fewest = round(len(x) / share) // self.ranks.world
        parts = torch.arange(len(x)).tensor_split(min(recipe.accumulate, fewest))
        remembered: list[Tensor | None] = []
        whole = torch.zeros((), device=x.device)
        self.optimizer.zero_grad(set_to_none=True)
        with _seeded(own, x.device):
            for place, part in enumerate(parts):
                span = slice(int(part[0]), int(part[-1]) + 1)
                last = place == len(parts) - 1
                waiting: AbstractContextManager[Any] = nullcontext()
                if isinstance(wrapped, DistributedDataParallel) and not last:
                    waiting = wrapped.no_sync()
                with waiting:
                    value, kept = self.gradient(
                        wrapped, objective, x[span], y[span], seed,
                        None if memory is None else memory[span], share * len(part) / len(x),
                    )  # fmt: skip
                whole = whole + value
                remembered.append(kept)
        rows = [one for one in remembered if one is not None]
        self.memory = torch.cat(rows) if rows and len(rows) == len(remembered) else None
        if recipe.clip_norm:
            nn.utils.clip_grad_norm_([p for g in self.optimizer.param_groups for p in g["params"]], recipe.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(recipe, self.step, self.total)
        self.optimizer.step()
        if self.average:
            self.follow()
        return whole

    def gradient(
        self,
        wrapped: nn.Module,
        objective: Objective,
        x: Tensor,
        y: Tensor,
        seed: int,
        memory: Tensor | None,
        share: float,
    ) -> tuple[Tensor, Tensor | None]:
        """Add the gradient of a part of a batch; its loss by its share, and what is to be remembered."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.recipe.bfloat16):
            try:
                shown = objective.examples(self.model, x, hard(y), seed, memory).detach()
            except PassError as error:
                raise self.diverged(f"the network's answers are no numbers at step {self.step}") from error
            if objective.wants_gradient:
                shown = (shown.clone() if shown is x else shown).requires_grad_(True)
            with objective.disturbed(self.model, x, shown, y):
                loss = _asked(wrapped, x, shown, y)
                if not loss.requires_grad:
                    raise ModelError(
                        "the network cannot be trained: its answer has no gradient for any of its weights (all of them are "
                        "frozen, or a step is detached or not differentiable); set requires_grad_(True), or mend that step."
                    )
                # DistributedDataParallel takes the mean over the processes, where shares want the sum.
                torch.autograd.backward(loss * (share * self.ranks.world))
        kept = None
        if objective.wants_gradient and shown.grad is not None:
            with torch.no_grad():
                kept = objective.remember(x, shown.detach(), shown.grad / (share * self.ranks.world))
        return loss.detach().float() * share, kept

    def follow(self) -> None:
        """Move the running mean of the weights; it is shorter at the start, where the weights are those of chance."""
        share = 1 - min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, now in state(self.model).items():
                mean = self.average[name]
                if mean.is_floating_point():
                    mean.lerp_(now.to(mean.dtype), share)
                else:
                    mean.copy_(now)

    def look(self, on_step: Callable[[int, int, float], object] | None, at_once: bool) -> None:
        """Read the losses, where it is time to; stop where one is no number, or an end is asked for."""
        device = self.unseen[0].device
        together = 1 if device.type == "cpu" else _SEEN_TOGETHER
        due = self.path is not None and time.monotonic() - self.saved_at >= self.every
        at_once |= self.ranks.world == 1 and (due or bool(self.pressed))
        if len(self.unseen) < together and not at_once:
            return
        flags = torch.tensor([float(bool(self.pressed)), float(due and self.ranks.first)], device=device)
        *values, ending, due_now = self.ranks.total(torch.cat([torch.stack(self.unseen), flags])).tolist()
        first = self.step - len(self.unseen)
        self.unseen.clear()
        for place, value in enumerate(values):
            if not math.isfinite(value):
                raise self.diverged(f"the loss is {value} at step {first + place}")
        self.losses += values
        if on_step is not None:
            on_step(self.step, self.total, values[-1])
        if ending or due_now:
            self.save()
        if ending:
            raise KeyboardInterrupt

    def diverged(self, what: str) -> AdvkitError:
        """What ends a training whose numbers are none."""
        kept = f" The checkpoint of step {self.kept} is kept." if self.path is not None else ""
        return AdvkitError(f"{what}; lower the learning rate.{kept}")

    def check_weights(self) -> None:
        """Refuse weights that are no numbers: the loss was taken before the step that made them."""
        if self.step and not all(bool(p.isfinite().all()) for p in self.model.parameters()):
            raise self.diverged(f"weights are no numbers after step {self.step - 1}")

    def end_epoch(self) -> Epoch:
        """Measure, and keep the weights where they are the best."""
        self.check_weights()
        try:
            with self.averaged():
                self.model.eval()
                scores = {} if self.validate is None else self.validate(self.model)
                found = self.ranks.said(torch.tensor([*scores.values()], dtype=torch.float64, device=self.device))
                scores = dict(zip(scores, found.tolist(), strict=True))
                is_best = bool(scores) and better(scores, self.history)
                if is_best:
                    self.best = _copied(state(self.model), "cpu")
        except KeyboardInterrupt:
            if self.pressed:  # between two batches of the measurement: nothing is half done
                self.save()
            raise
        rate = learning_rate(self.recipe, self.step - 1, self.total)
        losses = self.losses[-self.steps :]
        epoch = Epoch(
            number=len(self.history) + 1,
            loss=sum(losses) / len(losses),
            learning_rate=rate,
            seconds=self.spent + time.monotonic() - self.begun,
            scores=scores,
            best=is_best,
            alarm=alarming(scores, self.history),
        )
        self.history.append(epoch)
        self.spent, self.begun = 0.0, time.monotonic()
        return epoch

    @property
    def device(self) -> torch.device:
        return device_of(self.model)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The model with the running mean of its weights, where there is one."""
        if not self.average:
            yield
            return
        own = _copied(state(self.model))
        put(self.model, self.average)
        try:
            yield
        finally:
            put(self.model, own)

    def result(self) -> Training:
        """Leave the best weights in the model."""
        if self.average:
            put(self.model, self.average)
        last = _copied(state(self.model), "cpu")
        best = next((epoch for epoch in reversed(self.history) if epoch.best), None)
        if best is not None:
            put(self.model, self.best)
        self.model.eval()
        return Training(tuple(self.history), tuple(self.losses), last, best, self.resumed, self.stopped)

    # Batches -------------------------------------------------------------------------------------------------------

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Where the network is elsewhere than the pictures, the next batch is fetched while this one is used."""
        if self.device.type == "cpu":
            yield
            return
        with ThreadPoolExecutor(1) as self.pool:
            yield

    def batch(self, number: int) -> tuple[Tensor, Tensor, float]:
        """This process's part of a batch, as the network is to see it, and its share of the whole."""
        ids, whole = self.places(number)
        fetched = self.ahead.pop(number, None)
        x = fetched.result() if fetched is not None else self.data.pictures(ids.tolist())
        if self.pool is not None and number + 1 < self.recipe.epochs * self.batches:
            following = self.places(number + 1)[0].tolist()
            self.ahead[number + 1] = self.pool.submit(self.data.pictures, following)
        x, y = x.to(self.device), self.data.labels[ids].to(self.device)
        rng = Rng.of(self.recipe.seed, ids.to(self.device)).fold("augment").fold(number // self.batches)
        x = augmented(x, self.augmentation, self.recipe.shift, rng)
        if mixes(self.augmentation):
            seed = _number(Rng.of(self.recipe.seed, torch.tensor([number])).fold("mix"))
            x, y = mixed(x, y, self.augmentation, self.classes, seed)
            x, y = x[1:], y[1:]
        if self.recipe.label_smoothing:
            share = self.recipe.label_smoothing
            y = nn.functional.one_hot(y, self.classes).to(x.dtype) if y.ndim == 1 else y
            y = y * (1 - share) + share / self.classes
        return x, y, len(x) / whole

    def places(self, number: int) -> tuple[Tensor, int]:
        """This process's examples of a batch, after the one that comes before them where pictures are mixed; and how many
        examples the whole batch has."""
        epoch, place = divmod(number, self.batches)
        if self.order is None or self.order[0] != epoch:
            stream = Rng.of(self.recipe.seed, torch.arange(len(self.data)))
            self.order = (epoch, stream.fold("order").fold(epoch).bits().argsort())
        size = self.recipe.batch_size * self.ranks.world
        whole = self.order[1][place * size : (place + 1) * size]
        mine = torch.arange(len(whole)).tensor_split(self.ranks.world)[self.ranks.rank]
        return whole[torch.cat([mine[:1] - 1, mine]) if mixes(self.augmentation) else mine], len(whole)

    # Checkpoints ---------------------------------------------------------------------------------------------------

    def keep_at(self, path: Path, every: float, fresh: bool, identity: Mapping[str, object]) -> None:
        """Write checkpoints there, and go on from the one that is there."""
        self.path, self.every = path, every
        same = {
            **identity,
            "backbone": _layout(self.model),
            "defense": re.sub(r" at 0x\w+", "", repr(self.objective)),
            "data": f"{self.data.name} ({self.data.fingerprint()[:16]})",
            **self.recipe.settings(),
            "processes": self.ranks.world,
            "first weights": _digest(state(self.model)),
        }
        self.identity = parse_json(json.dumps(same), "what is trained")
        saved = None if fresh else read_checkpoint(path)
        self.ranks.wait()  # no one writes before all have read
        if saved is None:
            self.save()
            return
        check_same(path, saved.facts["of"], self.identity)
        self.restore(saved)

    def save(self) -> None:
        """Write a checkpoint, where there is a place for it; every process takes part."""
        if self.path is None:
            return
        self.check_weights()
        memories = [] if self.memory is None else self.ranks.gathered(self.memory)
        if self.ranks.first:
            names: dict[Tensor, str] = {p: name for name, p in self.model.named_parameters()}
            moving = self.optimizer.state
            groups: dict[str, dict[str, Tensor]] = {
                "model": state(self.model),
                "optimizer": {f"{names[p]}/{k}": t for p in moving for k, t in moving[p].items() if t is not None},
                "average": self.average,
                "best": self.best,
                "memory": {str(rank): memory for rank, memory in enumerate(memories)},
                "losses": {"all": torch.tensor(self.losses, dtype=torch.float64)},
            }
            facts = {
                "of": self.identity,
                "step": self.step,
                "history": [epoch.to_json() for epoch in self.history],
                "seconds": self.spent + time.monotonic() - self.begun,
            }
            write_checkpoint(self.path, Saved(facts, groups))
        self.saved_at, self.kept = time.monotonic(), self.step

    def restore(self, saved: Saved) -> None:
        """Stand where the checkpoint was written."""
        groups = saved.groups
        put(self.model, groups["model"])
        self.step = self.kept = self.resumed = int(saved.facts["step"])
        self.history = [Epoch(**epoch) for epoch in saved.facts["history"]]
        self.spent = float(saved.facts["seconds"])
        self.losses = groups["losses"]["all"].tolist()
        parameters = dict(self.model.named_parameters())
        for key, tensor in groups.get("optimizer", {}).items():
            name, _, what = key.rpartition("/")
            # AdamW counts its steps on the CPU, wherever the weights are.
            place = tensor if what == "step" else tensor.to(parameters[name].device)
            self.optimizer.state[parameters[name]][what] = place
        if self.average:
            self.average = {name: tensor.to(self.device) for name, tensor in groups["average"].items()}
        self.best = dict(groups.get("best", {}))
        if "memory" in groups:
            self.memory = groups["memory"][str(self.ranks.rank)].to(self.device)
        self.saved_at = self.begun = time.monotonic()


def _check_classes(model: nn.Module, data: Data) -> None:
    """Refuse data that a classifier cannot learn from."""
    if len(data) < 2:
        raise InputError(f"{data.name} has {len(data)} example; training needs at least 2.")
    with borrowed(model), torch.no_grad():
        x = data.pictures([0]).to(device_of(model))
        scores = Passes(model, Precision.own(model), 1).judge(x)
    check_labels(data, scores.shape[1])
    if bool((data.labels < 0).any()):
        raise DataError(f"{data.name} has examples without a label; training needs one for each.")
    first = int(data.labels[0])
    if bool((data.labels == first).all()):
        raise DataError(
            f"all {len(data)} examples of {data.name} are of class {first}; training needs two classes or more."
        )


def _optimizer(recipe: Recipe, trained: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained.values() if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained.values() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(recipe.momentum, 0.999))
    nesterov = recipe.nesterov and recipe.momentum > 0
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=nesterov)


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """torch's global generator under a seed (dropout draws from it), and as it was afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):  # it seeds the current one, which may be another
                torch.cuda.manual_seed(seed)
        yield


def _number(stream: Rng) -> int:
    """A number of 62 bits from a stream of one example."""
    return int(stream.bits()) & (2**62 - 1)


def state(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a model by name, as they are: no copies."""
    return {name: tensor for name, tensor in model.state_dict().items() if isinstance(tensor, Tensor)}


def _copied(tensors: Mapping[str, Tensor], device: str | None = None) -> dict[str, Tensor]:
    return {name: tensor.detach().to(device or tensor.device, copy=True) for name, tensor in tensors.items()}


def put(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Write into a model's own tensors."""
    with torch.no_grad():
        for name, tensor in state(model).items():
            tensor.copy_(tensors[name])


def _layout(model: nn.Module) -> str:
    """The backbone in a word: its name where it has one, and a digest of the names and shapes of its tensors."""
    name = model.name if isinstance(model, Classifier) else type(model).__name__
    shapes = " ".join(f"{key}{tuple(tensor.shape)}" for key, tensor in state(model).items())
    return f"{name} ({sha256(shapes)[:8]})"


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
