"""What a training keeps, what it says of itself, and what it refuses."""

from __future__ import annotations

import math
import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from helpers import conv_net, seeded, trained
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from advkit.core import Linf
from advkit.core.defense import Objective
from advkit.data import Data, TensorData
from advkit.defenses.pgd_at import PGDTraining
from advkit.defenses.standard import Standard
from advkit.engine.evaluate import accuracy
from advkit.engine.training import CHECKPOINT, Epoch, Ranks, Recipe, Scores, robustness, train
from advkit.engine.training.watch import alarming
from advkit.errors import AdvkitError, DataError, InputError, ModelError, WriteError

SHORT = Recipe(epochs=4, batch_size=8, learning_rate=0.05, shift=0, bfloat16=False, validation=8)


@pytest.fixture
def data() -> TensorData:
    _, x, y = trained()
    return TensorData(x.float(), y)


def fresh(seed: int = 0) -> nn.Module:
    return conv_net(4, norm=True, seed=seed, dtype=torch.float32)


def weights(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# Best and last ---------------------------------------------------------------------------------------------------------


def test_the_best_epoch_is_kept_in_the_model_and_the_last_beside_it(data: TensorData) -> None:
    marks, seen = iter([0.3, 0.9, 0.5, 0.9]), []

    def validate(model: nn.Module) -> Scores:
        assert not model.training
        seen.append(weights(model))
        return {"mark": next(marks), "clean": 0.0}

    net = fresh()
    training = train(net, data, Standard(), SHORT, validate=validate)
    assert [epoch.best for epoch in training.history] == [True, True, False, False]
    assert training.best == training.history[1]
    assert same(weights(net), seen[1])
    assert same(dict(training.last), seen[3])
    assert not same(seen[1], seen[3])


def test_without_examples_held_out_the_last_epoch_is_kept(data: TensorData) -> None:
    net = fresh()
    training = train(net, data, Standard(), replace(SHORT, validation=0))
    assert training.best is None
    assert same(weights(net), dict(training.last))
    assert [epoch.scores for epoch in training.history] == [{}] * 4


class Spied(Data):
    """Notes which examples are asked for."""

    def __init__(self, data: Data) -> None:
        self.data, self.name, self.classes, self.labels = data, data.name, data.classes, data.labels
        self.asked: list[set[int]] = []

    def pictures(self, indices: object) -> Tensor:
        self.asked.append(set(indices))  # type: ignore[call-overload]
        return self.data.pictures(indices)  # type: ignore[arg-type]

    def fingerprint(self) -> str:
        return self.data.fingerprint()


class Watching(Objective):
    """Counts what it is shown."""

    shown: ClassVar[set[bytes]] = set()

    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        self.shown.update(one.numpy().tobytes() for one in x)
        return nn.functional.cross_entropy(model(x), y)


def test_examples_held_out_are_never_trained_on(data: TensorData) -> None:
    Watching.shown.clear()
    train(fresh(), data, Watching(), SHORT)
    everything = {one.numpy().tobytes() for one in data.tensors()[0]}
    assert len(everything) == 32
    assert len(Watching.shown) == 24
    assert Watching.shown < everything


def test_what_is_measured_is_robust_and_clean_accuracy_on_the_examples_held_out(data: TensorData) -> None:
    net, ball = fresh(), Linf(0.03)
    train(net, data, Standard(), replace(SHORT, epochs=20, validation=0))
    found = robustness(data, ball)(net)
    assert list(found) == ["robust", "clean", "fgsm"]
    assert found["clean"] == accuracy(net, data).value
    assert found["robust"] <= found["fgsm"] <= found["clean"]
    assert found["robust"] < robustness(data, Linf(0.003))(net)["robust"]
    assert list(robustness(data, None)(net)) == ["clean"]


def test_patience_ends_a_training_that_gets_no_better(data: TensorData) -> None:
    marks = iter([0.1, 0.5, 0.4, 0.5, 0.9])
    training = train(
        fresh(), data, Standard(), replace(SHORT, epochs=5, patience=2), validate=lambda _: {"mark": next(marks)}
    )
    assert len(training.history) == 4
    assert training.stopped == "patience"


# The alarm -------------------------------------------------------------------------------------------------------------


def history(*scores: tuple[float, float]) -> list[Epoch]:
    return [Epoch(n + 1, 1.0, 0.1, 1.0, {"robust": r, "clean": 0.9, "fgsm": f}) for n, (r, f) in enumerate(scores)]


@pytest.mark.parametrize(
    ("before", "now", "rings"),
    [
        ([(0.3, 0.4), (0.4, 0.5)], (0.05, 0.8), True),
        ([(0.4, 0.5), (0.1, 0.4)], (0.05, 0.8), True),  # it is still there two epochs later
        ([(0.3, 0.4), (0.4, 0.5)], (0.21, 0.8), False),  # a fall of 19 points
        ([(0.3, 0.4), (0.4, 0.5)], (0.05, 0.1), False),  # both fell: the training went wrong, but not so
        ([(0.1, 0.2), (0.2, 0.3)], (0.05, 0.5), True),  # what was never high cannot fall by 20 points
        ([(0.1, 0.2), (0.2, 0.3)], (0.05, 0.24), False),  # one step finds as much
        ([], (0.0, 0.9), False),
    ],
)
def test_the_alarm_is_rung_where_pgd_finds_more_and_one_step_does_not(
    before: list[tuple[float, float]], now: tuple[float, float], rings: bool
) -> None:
    assert alarming({"robust": now[0], "clean": 0.9, "fgsm": now[1]}, history(*before)) == rings


def test_a_training_stops_at_the_alarm_with_the_weights_from_before(data: TensorData) -> None:
    marks = iter([(0.4, 0.5), (0.0, 0.9), (0.0, 0.9), (0.5, 0.5)])
    seen = []

    def validate(model: nn.Module) -> Scores:
        seen.append(weights(model))
        robust, fgsm = next(marks)
        return {"robust": robust, "clean": 0.9, "fgsm": fgsm}

    net = fresh()
    training = train(net, data, Standard(), replace(SHORT, stop_on_alarm=True), validate=validate)
    assert [epoch.alarm for epoch in training.history] == [False, True]
    assert training.stopped == "alarm"
    assert same(weights(net), seen[0])


# Parts of a step -------------------------------------------------------------------------------------------------------


def test_accumulated_parts_give_the_step_of_the_whole_batch(data: TensorData) -> None:
    nets = []
    for accumulate in (1, 3):
        net = conv_net(4, dtype=torch.float32).double()  # without BatchNorm, which sees each part by itself
        train(net, Doubled(data), Standard(), replace(SHORT, accumulate=accumulate, batch_size=11))
        nets.append(weights(net))
    assert all(torch.allclose(nets[0][name], nets[1][name], rtol=1e-9) for name in nets[0])


class Doubled(Spied):
    def pictures(self, indices: object) -> Tensor:
        return super().pictures(indices).double()


def test_a_clipped_step_is_no_longer_than_the_rate_allows(data: TensorData) -> None:
    net = fresh()
    before = weights(net)
    recipe = replace(
        SHORT, epochs=1, batch_size=24, clip_norm=0.01, weight_decay=0.0, momentum=0.0, schedule="constant"
    )
    train(net, data, Standard(), recipe)
    moved = torch.cat([(p.detach() - before[name]).flatten() for name, p in net.named_parameters()]).norm()
    assert float(moved) == pytest.approx(0.01 * 0.05, rel=1e-3)


def test_the_running_mean_of_the_weights_is_what_is_kept(data: TensorData) -> None:
    plain, mean = fresh(), fresh()
    recipe = replace(SHORT, validation=0, epochs=2, batch_size=16, momentum=0.0, schedule="constant")
    path: list[dict[str, Tensor]] = []

    class Noted(Standard):
        def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
            path.append({name: p.detach().clone() for name, p in model.named_parameters()})
            return super().loss(model, x, shown, y)

    train(plain, data, Noted(), recipe)
    train(mean, data, Standard(), replace(recipe, ema=0.5))
    path.append({name: p.detach() for name, p in plain.named_parameters()})
    expected = path[0]["0.weight"]
    for step in range(1, 5):
        decay = min(0.5, step / (9 + step))
        expected = decay * expected + (1 - decay) * path[step]["0.weight"]
    assert torch.allclose(mean.state_dict()["0.weight"], expected, atol=1e-6)


class Labels(Objective):
    """Notes what labels its two halves are given."""

    seen: ClassVar[list[tuple[Tensor, Tensor]]] = []

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, seed: int, memory: Tensor | None = None) -> Tensor:
        self.seen.append((y, y))
        return x

    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        self.seen[-1] = (self.seen[-1][0], y)
        return nn.functional.cross_entropy(model(x), y)


@pytest.mark.parametrize(("augment", "highest"), [("none", 0.9 + 0.025), ("cutmix", None), ("mixup", None)])
def test_the_loss_gets_probabilities_and_the_attack_class_numbers(
    data: TensorData, augment: str, highest: float | None
) -> None:
    Labels.seen.clear()
    train(fresh(), data, Labels(), replace(SHORT, epochs=1, augment=augment, label_smoothing=0.1))
    assert len(Labels.seen) == 3
    for numbers, shares in Labels.seen:
        assert numbers.dtype == torch.long
        assert shares.shape == (8, 4)
        assert shares.sum(1).allclose(torch.ones(8))
        assert float(shares.min()) == pytest.approx(0.025)
        assert torch.equal(shares.argmax(1), numbers)
        if highest is not None:
            assert shares.max(1).values.allclose(torch.tensor(highest))


def test_the_callers_random_numbers_are_left_alone(data: TensorData) -> None:
    net = conv_net(4, dropout=0.5, dtype=torch.float32)
    before = torch.get_rng_state()
    train(net, data, Standard(), replace(SHORT, augment="randaugment+cutmix"))
    assert torch.equal(torch.get_rng_state(), before)


@dataclass(frozen=True)
class Ramp(Objective):
    done: float = -1.0
    told: ClassVar[list[float]] = []

    def at(self, done: float) -> Ramp:
        return replace(self, done=done)

    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        self.told.append(self.done)
        return nn.functional.cross_entropy(model(x), y)


def test_the_objective_is_told_how_much_is_done(data: TensorData) -> None:
    Ramp.told.clear()
    train(fresh(), data, Ramp(), SHORT)
    assert Ramp.told == pytest.approx([step / 12 for step in range(12)])


# Networks that are no classifiers --------------------------------------------------------------------------------------


class Restoring(Objective):
    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        return nn.functional.mse_loss(model(x), x)


def test_a_network_from_pictures_to_pictures_can_be_trained(data: TensorData) -> None:
    net = seeded(nn.Conv2d(3, 3, 3, padding=1), dtype=torch.float32)
    x, y = data.tensors()

    def psnr(model: nn.Module) -> Scores:
        with torch.no_grad():
            return {"psnr": -10 * math.log10(float(nn.functional.mse_loss(model(x), x)))}

    before = psnr(net)["psnr"]
    recipe = replace(SHORT, epochs=10, optimizer="adamw", learning_rate=0.01)
    training = train(net, TensorData(x, 0 * y), Restoring(), recipe, validate=psnr)
    assert psnr(net)["psnr"] > before + 3
    assert len(training.losses) == 40, "nothing is held out by itself"


# What is refused -------------------------------------------------------------------------------------------------------


def test_data_of_one_class_is_refused(data: TensorData) -> None:
    x, y = data.tensors()
    with pytest.raises(DataError, match="all 32 examples of tensors are of class 0; training needs two classes"):
        train(fresh(), TensorData(x, 0 * y), Standard(), SHORT)


def test_more_processes_than_examples_are_refused(data: TensorData) -> None:
    with pytest.raises(InputError, match="30 processes share 24 examples; start at most 24"):
        train(fresh(), data, Standard(), SHORT, ranks=Ranks(0, 30, 0))


def test_holding_out_all_examples_is_refused(data: TensorData) -> None:
    with pytest.raises(InputError, match="32 examples, and 31 are held out; hold out fewer"):
        train(fresh(), data, Standard(), replace(SHORT, validation=31))


class FailsLater(Standard):
    """No number from its tenth loss on."""

    count: ClassVar[int] = 0

    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        FailsLater.count += 1
        return super().loss(model, x, shown, y) * (torch.nan if FailsLater.count > 9 else 1.0)


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(data: TensorData, tmp_path: Path) -> None:
    FailsLater.count = 0
    said = r"the loss is nan at step 9; lower the learning rate. The checkpoint of step 9 is kept"
    with pytest.raises(AdvkitError, match=said):
        train(fresh(), data, FailsLater(), SHORT, folder=tmp_path)
    FailsLater.count = -100
    net, whole = fresh(), fresh()
    training = train(net, data, FailsLater(), SHORT, folder=tmp_path)
    assert training.resumed == 9
    train(whole, data, Standard(), SHORT)
    assert same(weights(net), weights(whole)), "it was good"


@pytest.mark.parametrize(
    ("every", "said"),
    [
        (0, "weights are no numbers after step 1; lower the learning rate. The checkpoint of step 1 is kept"),
        (
            60,
            "the network's answers are no numbers at step 2; lower the learning rate. The checkpoint of step 0 is kept",
        ),
    ],
)
def test_weights_that_are_no_numbers_are_never_kept(data: TensorData, tmp_path: Path, every: int, said: str) -> None:
    net = fresh()

    def spoil(step: int, total: int, loss: float) -> None:
        if step == 2:
            next(net.parameters()).data.fill_(torch.nan)  # as a step does whose gradient overflows under a finite loss

    with pytest.raises(AdvkitError, match=said):
        train(
            net, data, PGDTraining(Linf(0.05), steps=1), SHORT, folder=tmp_path, on_step=spoil, checkpoint_every=every
        )
    kept = load_file(tmp_path / CHECKPOINT)
    assert all(bool(value.isfinite().all()) for value in kept.values())


def test_a_full_disk_is_said_and_leaves_the_checkpoint_of_before(
    data: TensorData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(Exception):
        pass

    def stop(epoch: Epoch) -> None:
        raise Stop

    with pytest.raises(Stop):
        train(fresh(), data, Standard(), SHORT, stop, folder=tmp_path)
    before = (tmp_path / CHECKPOINT).read_bytes()

    def full(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half of it")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(WriteError, match=r"checkpoint.safetensors cannot be written .*No space left on device"):
        train(fresh(), data, Standard(), SHORT, folder=tmp_path)
    assert (tmp_path / CHECKPOINT).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]


def test_a_checkpoint_that_may_hold_code_is_refused_unread(data: TensorData, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path(tmp_path / "sprung"),))  # type: ignore[return-value]

    for protocol in (0, 2, 4):
        (tmp_path / CHECKPOINT).write_bytes(pickle.dumps({"model": Trap()}, protocol))
        with pytest.raises(ModelError, match="may hold code that would run when it is loaded, so it was not loaded"):
            train(fresh(), data, Standard(), SHORT, folder=tmp_path)
    torch.save({"model": fresh().state_dict()}, tmp_path / CHECKPOINT)
    with pytest.raises(ModelError, match="may hold code"):
        train(fresh(), data, Standard(), SHORT, folder=tmp_path)
    assert not (tmp_path / "sprung").exists()
    training = train(fresh(), data, Standard(), SHORT, folder=tmp_path, fresh=True)
    assert training.resumed == 0


def test_a_damaged_checkpoint_is_refused(data: TensorData, tmp_path: Path) -> None:
    train(fresh(), data, Standard(), SHORT, folder=tmp_path)
    whole = (tmp_path / CHECKPOINT).read_bytes()
    for content in (whole[: len(whole) // 2], whole[:20], b"", whole[:8] + b"{" * 100):
        (tmp_path / CHECKPOINT).write_bytes(content)
        with pytest.raises(ModelError, match=r"begins? anew with --fresh"):
            train(fresh(), data, Standard(), SHORT, folder=tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"net": nn.Sequential(nn.Flatten(), nn.Linear(192, 4))}, "its backbone is 'Sequential .*' there, and"),
        ({"net": conv_net(4, norm=True, seed=1, dtype=torch.float32)}, "its first weights is"),
        ({"objective": PGDTraining(Linf(0.05), steps=2)}, "its defense is 'Standard.*PGDTraining"),
        ({"recipe": replace(SHORT, learning_rate=0.1)}, "its learning_rate is 0.05 there, and 0.1 is asked for"),
        ({"recipe": replace(SHORT, seed=1)}, "its seed is 0 there|its data is"),
        ({"data": True}, "its data is 'tensors"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_by_what_differs(
    data: TensorData, tmp_path: Path, change: dict[str, object], said: str
) -> None:
    def go(net: nn.Module, objective: Objective = Standard(), recipe: Recipe = SHORT, data: Data = data) -> None:  # noqa: B008
        train(net, data, objective, recipe, folder=tmp_path)

    go(fresh())
    before = (tmp_path / CHECKPOINT).read_bytes()
    x, y = data.tensors()
    if "data" in change:
        change = {"data": TensorData(1 - x, y)}
    with pytest.raises(InputError, match=said) as refused:
        go(**({"net": fresh()} | change))  # type: ignore[arg-type]
    assert "--fresh" in str(refused.value)
    assert (tmp_path / CHECKPOINT).read_bytes() == before


def test_a_training_that_is_over_is_not_done_again(data: TensorData, tmp_path: Path) -> None:
    first, again = fresh(), fresh()
    one = train(first, data, Standard(), SHORT, folder=tmp_path)
    two = train(again, data, Standard(), SHORT, lambda epoch: pytest.fail("nothing is left to do"), folder=tmp_path)
    assert two.resumed == len(one.losses) == 12
    assert same(weights(first), weights(again))
    assert one.history[0] == two.history[0]
