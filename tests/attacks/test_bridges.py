"""Attacks of other libraries: counted, measured, judged; the mechanics by a library made up here, the peers where installed."""

from __future__ import annotations

import inspect
import random
import statistics
import sys
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from helpers import FailsAt, Spy, conv_net, pictures, trained
from torch import Tensor, nn

from advkit.attacks import PGD, foolbox_model
from advkit.attacks._bridge import Bridge, Bridged, Peer, kebab
from advkit.catalog import ATTACKS
from advkit.core import L2, Linf, Targeted, Untargeted
from advkit.core.external import External
from advkit.core.modes import borrowed
from advkit.engine import external
from advkit.engine.evaluate import evaluate
from advkit.engine.examples import Source
from advkit.engine.passes import Passes
from advkit.engine.precision import Precision
from advkit.engine.run import Run
from advkit.engine.specs import AttackSpec
from advkit.engine.sweep import sweep
from advkit.errors import InputError, MissingExtra, ModelError, UnknownName
from advkit.registry import Registry

BALL = Linf(0.05)


@dataclass(frozen=True)
class Idle(External):
    """Gives back what it was given."""

    name: str = "made-up:idle"

    def perturb(self, model, x, goal):
        return x


@dataclass(frozen=True)
class Signs(Idle):
    """One step up the gradient, ``size`` radii long."""

    name: str = "made-up:signs"
    size: float = 1.0

    def perturb(self, model, x, goal):
        points = x.clone().requires_grad_()
        goal.margin(model(points)).sum().backward()
        with torch.no_grad():
            model(x[:2])
        return (x + self.size * float(self.threat.eps) * points.grad.sign()).clamp(0, 1)


@dataclass(frozen=True)
class Draws(Idle):
    """Draws from every global generator, and breaks where it is told to."""

    name: str = "made-up:draws"
    breaks: bool = False

    def perturb(self, model, x, goal):
        model.train()
        noise = torch.rand_like(x) + random.random() + np.random.rand()
        if self.breaks:
            raise RuntimeError("broken")
        return (x + float(self.threat.eps) * (2 * (noise % 1) - 1)).clamp(0, 1)


@dataclass(frozen=True)
class Nothing(Idle):
    """NaN for the first picture."""

    def perturb(self, model, x, goal):
        return torch.cat([x[:1] * torch.nan, x[1:]])


class ChannelsLast(nn.Module):
    """Puts the channels last in memory, as faster forms of a model do."""

    def forward(self, x):
        return x.contiguous(memory_format=torch.channels_last)


def rows(attack, model=None):
    net, x, y = trained()
    return evaluate(model or net, (x, y), attack)


def test_every_row_that_the_model_is_asked_about_is_counted(monkeypatch):
    monkeypatch.setitem(external._COMPANY, "cpu", 7)
    net, x, y = trained()
    spy, count = Spy(net), len(x)
    with borrowed(spy):
        run = Run(
            Signs(BALL), Passes(spy, Precision.own(spy), 5), Source(lambda indices: x[list(indices)], Untargeted(y))
        )
        run.go(lambda finished: None)
    assert int(run.backwards.sum()) == spy.backwards == count
    assert (
        int(run.forwards.sum()) == spy.forwards == count + count + 2 * -(-count // 7)
    )  # gradients, verdicts, two a company
    assert int(run.forwards.max() - run.forwards.min()) <= 2


def test_what_it_gives_back_is_judged_by_the_model_and_measured_by_the_ball():
    net, x, y = trained()
    result = rows(Signs(BALL))
    x_adv = Signs(BALL)(net, x, y)
    assert bool(BALL.contains(x_adv, x).all())
    with torch.no_grad():
        assert torch.equal(result.outcomes[0].prediction[result.correct], net(x_adv).argmax(1)[result.correct])
    assert result.rows()[0].success > 0.5
    assert result.rows()[0].attack == "Signs"


def test_one_that_gives_back_what_it_was_given_beats_nothing():
    (row,) = rows(Idle(BALL)).rows()
    assert row.success == 0
    assert row.accuracy.value == rows(Idle(BALL)).clean_accuracy.value


def test_one_that_leaves_its_ball_is_told_of_and_beats_nothing_there():
    net, x, y = trained()
    with pytest.warns(
        UserWarning, match=r"^made-up:signs left Linf 0\.05, going as far as 0\.1, in 32 of 32 examples;"
    ):
        result = evaluate(net, (x, y), Signs(BALL, size=2))
    assert result.rows()[0].success == 0
    assert float(result.outcomes[0].distance.max()) == 0
    assert rows(Signs(Linf(0.1))).rows()[0].success > 0.5


def test_rounding_is_mended_and_not_told_of():
    net, x, y = trained()
    result = evaluate(net, (x, y), Signs(BALL, size=1 + 1e-6))
    assert result.rows()[0].success > 0.5
    assert bool((result.outcomes[0].distance <= 0.05).all())


def test_what_is_no_number_beats_nothing():
    net, x, y = trained()
    with pytest.warns(UserWarning, match=r"going as far as inf, in 1 of 32 examples"):
        result = evaluate(net, (x, y), Nothing(BALL))
    assert result.rows()[0].success == 0


def test_one_that_looks_for_the_nearest_picture_fails_at_a_radius_and_leaves_no_ball():
    net, x, y = trained()
    attack = Signs(Linf(0.01), minimal=True, size=5)
    with pytest.warns(UserWarning, match=r"^made-up:signs found no adversarial picture within Linf 0\.01; of the \d+"):
        result = evaluate(net, (x, y), attack)
    assert result.rows()[0].success == 0
    whole = evaluate(net, (x, y), Signs(Linf(0.05), minimal=True))
    assert whole.rows()[0].success > 0.5


@pytest.mark.parametrize("breaks", [False, True])
def test_global_generators_and_the_model_come_back_also_after_an_exception(breaks):
    net, x, y = conv_net(4, dropout=0.2), *trained()[1:]
    weight = next(net.parameters())
    weight.grad = torch.ones_like(weight)
    state = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist(), net.training)
    attack = Draws(BALL, breaks=breaks)
    if breaks:
        with pytest.raises(InputError, match=r"^made-up:draws failed inside its own library: RuntimeError: broken\."):
            attack(net, x, y)
    else:
        first = attack(net, x, y, seed=1)
        assert torch.equal(attack(net, x, y, seed=1), first)
        assert not torch.equal(attack(net, x, y, seed=2), first)
    assert torch.equal(torch.get_rng_state(), state[0])
    assert random.getstate() == state[1]
    assert np.random.get_state()[1].tolist() == state[2]
    assert not any(module.training for module in net.modules())
    assert torch.equal(weight.grad, torch.ones_like(weight))
    assert weight.requires_grad


def test_what_the_model_raises_comes_through_as_it_is():
    net, x, y = trained()
    with pytest.raises(ModelError, match=r"\(ValueError: no answer to call 1\)") as raised:
        Signs(BALL)(FailsAt(net, 1), x, y)
    assert str(raised.value.__cause__) == "no answer to call 1"
    with pytest.raises(ValueError, match=r"^no answer to call 2$"):
        Signs(BALL)(FailsAt(net, 2), x, y)


def test_gradients_come_in_the_order_of_the_picture():
    @dataclass(frozen=True)
    class Ordered(Signs):
        def perturb(self, model, x, goal):
            points = x.clone().requires_grad_()
            (grad,) = torch.autograd.grad(model(points).sum(), points)
            return (x + float(self.threat.eps) * grad.view(len(x), -1).sign().view(x.shape)).clamp(0, 1)

    net = nn.Sequential(ChannelsLast(), conv_net(4))
    assert Ordered(BALL)(net, pictures(4), torch.zeros(4, dtype=torch.long)).shape == (4, 3, 8, 8)


def test_a_start_and_a_result_of_another_shape_are_refused():
    net, x, y = trained()

    class Odd(Idle):
        def perturb(self, model, x, goal):
            return x[:, :1]

    with pytest.raises(
        InputError, match=r"^made-up:idle gave back \(32, 1, 8, 8\) for pictures of shape \(32, 3, 8, 8\)"
    ):
        Odd(BALL)(net, x, y)
    with pytest.raises(InputError, match=r"^made-up:idle chooses its own first points; leave out start"):
        Idle(BALL)(net, x, y, start=x)


# ---------------------------------------------------------------------- the bridge itself


def theirs(*, steps: int = 5, size=1.0, flag: bool = False, word="a", more=None):
    """What a library's constructor looks like."""
    if steps > 100:
        raise ValueError("too many steps")
    return steps, size, flag, word, more


class _MadeUp(Bridge):
    prefix, package, title = "made-up", "pytest", "Made-up"

    def found(self):
        settings = dict(inspect.signature(theirs).parameters)
        return [
            Peer("fixed-one", theirs, (Linf, L2), False, settings=settings, scaled={"size": 0.25}),
            Peer("near", theirs, (L2,), True, "decisions", settings),
        ]


class Value(Bridged):
    @classmethod
    def bridge(cls):
        return BRIDGE

    def perturb(self, model: nn.Module, x: Tensor, goal) -> Tensor:
        return x


_MadeUp.value = Value
BRIDGE = _MadeUp()


@pytest.fixture
def registry():
    return Registry("attack", "advkit.attacks", bridges={"made-up": __name__})


def test_names_with_a_prefix_are_looked_up_in_the_library(registry):
    entry = registry["made-up:FixedOne"]
    assert entry.name == "made-up:fixed-one"
    assert list(entry.settings) == ["threat", "steps", "size", "flag", "word", "more"]
    assert "made-up:fixed-one-attack" in registry
    assert "made-up:fixed-two" not in registry
    assert not [name for name in registry.names() if ":" in name]
    assert [each.name for each in registry.bridged()] == ["made-up:fixed-one", "made-up:near"]
    with pytest.raises(UnknownName, match="Did you mean 'made-up:near'"):
        registry["made-up:neer"]
    attack = registry.create("made-up:near")
    assert (attack.threat, attack.minimal, attack.tells) == (L2("inf"), True, "decisions")
    assert registry.name_of(attack) == "made-up:near"
    assert ATTACKS.name_of(PGD()) == "pgd"


def test_settings_are_typed_by_the_defaults_of_the_constructor(registry):
    make = registry["made-up:fixed-one"].create
    made = make(threat=L2(0.5), steps="7", flag="yes", word="b", more="1,0.5")
    assert dict(made.settings) == {"flag": True, "more": (1, 0.5), "steps": 7, "word": "b"}
    assert made.arguments()["size"] == 0.125, "a step size that is not set keeps its proportion to the radius"
    assert make(size="1/8").arguments()["size"] == 0.125
    assert make() == make()
    assert "steps', 7" in repr(made)
    for settings, said in (
        ({"steps": "1.5"}, r"^made-up:fixed-one: steps is '1.5'; give a whole number"),
        ({"flag": "perhaps"}, "give true or false"),
        ({"size": "big"}, "give a number such as 1.0"),
        ({"stepps": "1"}, "has no setting 'stepps'. Did you mean 'steps'"),
        ({"threat": Linf("inf")}, "needs a radius; Linf inf has none"),
    ):
        with pytest.raises(InputError, match=said):
            make(**settings)
    with pytest.raises(InputError, match="made-up:near works in L2, not in Linf"):
        registry.create("made-up:near", threat=BALL)
    with pytest.raises(InputError, match=r"^made-up:fixed-one refuses its settings: too many steps\.$"):
        make(steps=101).made()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("LinfProjectedGradientDescentAttack", "linf-projected-gradient-descent"),
        ("LInfFMNAttack", "linf-fmn"),
        ("HopSkipJumpAttack", "hop-skip-jump"),
        ("GenAttack", "gen-attack"),
        ("L2PGD", "l2-pgd"),
        ("DDNAttack", "ddn"),
        ("PGDL2", "pgdl2"),
        ("CarliniL2Method", "carlini-l2-method"),
    ],
)
def test_names_are_those_of_the_classes_in_kebab_case(name, expected):
    assert kebab(name) == expected


@pytest.mark.parametrize("library", ["foolbox", "torchattacks", "art"])
def test_a_library_that_is_not_installed_is_named_with_its_extra(library, monkeypatch):
    from importlib import import_module

    from advkit.attacks import _bridge

    bridge = import_module(f"advkit.attacks._bridge_{library}").BRIDGE
    _bridge._peers_of.cache_clear()
    for name in list(sys.modules):
        if name.partition(".")[0] == library:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=rf"^An attack of {bridge.title} needs .* pip install 'advkit\[parity\]'\.$"):
        ATTACKS[f"{library}:pgd"]
    _bridge._peers_of.cache_clear()


# ---------------------------------------------------------------------- the peers


@pytest.fixture(scope="module")
def foolbox():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("foolbox")


def test_foolbox_runs_as_it_does_by_itself(foolbox):
    net, x, y = trained()
    ours = ATTACKS.create("foolbox:linf-basic-iterative", threat=BALL)(net, x, y)
    peer = foolbox.attacks.LinfBasicIterativeAttack()
    expected = peer.run(foolbox_model(net), x, foolbox.criteria.Misclassification(y), epsilon=0.05)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-9)
    target = (y + 1) % 4
    aimed = ATTACKS.create("foolbox:linf-basic-iterative", threat=Linf(0.2))(net, x, Targeted(target))
    assert float((net(aimed).argmax(1) == target).double().mean()) > 0.9


def test_every_attack_of_foolbox_is_found_with_its_norm(foolbox):
    names = [entry.name for entry in ATTACKS.bridged() if entry.name.startswith("foolbox:")]
    assert len(names) > 50
    assert {"foolbox:linf-pgd", "foolbox:hop-skip-jump", "foolbox:boundary", "foolbox:gen-attack"} <= set(names)
    assert ATTACKS["foolbox:l1-fmn"].create().threat.norm == "l1"
    assert ATTACKS["foolbox:hop-skip-jump"].create(threat=Linf(0.1)).threat == Linf(0.1)
    with pytest.raises(InputError, match=r"^foolbox:gen-attack must be targeted"):
        ATTACKS.create("foolbox:gen-attack", threat=BALL, steps=2)(*trained())


def test_decision_based_attacks_are_told_nothing_but_answers(foolbox):
    net, x, y = trained()
    x, y = x[:6].float(), y[:6]
    spy = Spy(conv_net(4, norm=True, dtype=torch.float32))
    spy.inner.load_state_dict(net.state_dict())
    few = {"steps": 2, "initial_gradient_eval_steps": 8}
    attacks = {
        "hop": ATTACKS.create("foolbox:hop-skip-jump", **few),
        "boundary": ATTACKS.create("foolbox:boundary", steps=20),
    }
    result = evaluate(spy, (x, y), attacks)
    assert spy.backwards == 0
    for outcome in result.outcomes:
        assert int(outcome.success.sum()) >= 5
        assert outcome.tells == "decisions"
    assert float(result.outcomes[0].distance.median()) < 3


def test_foolbox_takes_an_advkit_model(foolbox):
    net, x, y = trained()
    model = foolbox_model(net)
    assert model.bounds == (0, 1)
    assert foolbox.utils.accuracy(model, x, y) > 0.95


def test_a_sweep_and_a_transfer_run_them_by_name(foolbox, tmp_path):
    from advkit.data import TensorData

    net, x, y = trained()
    data = TensorData(x[:8].float(), y[:8], name="patterns")
    model, other = conv_net(4, norm=True, dtype=torch.float32), conv_net(4, norm=True, dtype=torch.float32)
    model.load_state_dict(net.state_dict())
    grid = sweep({"a": model, "b": other}, data, "foolbox:fgsm", [0.02, 0.05], out=tmp_path, transfer=True).grid
    assert {line.attack for line in grid.lines} == {"foolbox:fgsm", "foolbox:fgsm via a", "foolbox:fgsm via b"}
    own = evaluate(model, data, ATTACKS.create("foolbox:fgsm", threat=BALL))
    line = next(line for line in grid.lines if (line.attack, line.model, line.eps) == ("foolbox:fgsm", "a", "0.05"))
    assert line.stands.tolist() == own.outcomes[0].stands(y[:8]).tolist()
    assert AttackSpec("foolbox:fgsm").stages(BALL)[0][0] == "foolbox:fgsm"


@pytest.mark.parity
def test_torchattacks_runs_as_it_does_by_itself():
    torchattacks = pytest.importorskip("torchattacks")
    net, x, y = trained()
    ours = ATTACKS.create("torchattacks:bim", threat=BALL, steps=5)(net, x, y)
    torch.testing.assert_close(ours, torchattacks.BIM(net, eps=0.05, alpha=0.0125, steps=5)(x, y), rtol=0, atol=1e-9)
    assert float((ours - x).abs().max()) > 0.04
    drawn = ATTACKS.create("torchattacks:square", threat=Linf(0.3), n_queries=30)
    assert not torch.equal(drawn(net, x, y, seed=1), drawn(net, x, y, seed=2))
    assert int(
        evaluate(net, (x, y), ATTACKS.create("torchattacks:apgdt", threat=BALL, steps=3)).outcomes[0].success.sum()
    )


@pytest.mark.parity
@pytest.mark.slow
def test_art_runs_by_name():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("art")
    net, x, y = trained()
    net = conv_net(4, norm=True, dtype=torch.float32)
    net.load_state_dict(trained()[0].state_dict())
    result = evaluate(net, (x.float(), y), ATTACKS.create("art:basic-iterative-method", threat=BALL, max_iter=5))
    assert result.rows()[0].success > 0.5
    assert result.rows()[0].backwards >= 5 * 30
    assert not hasattr(np, "asfarray")


@dataclass(frozen=True)
class Far(Idle):
    """Looks for the nearest picture, and gives the first one of another class that it meets, or none."""

    name: str = "made-up:far"
    minimal: bool = True
    lost: bool = False

    def perturb(self, model, x, goal):
        with torch.no_grad():
            classes = model(x).argmax(1)
        if self.lost:
            return x * torch.nan
        return torch.stack([x[(classes != own).nonzero()[0, 0]] for own in classes])


def test_an_attack_that_found_nothing_in_the_ball_tells_how_far_it_came():
    model, x, y = trained()
    ball = L2(0.1)
    far = Far(threat=ball).perturb(model, x, Untargeted(y))
    distance = ball.distance(far, x)
    with pytest.warns(UserWarning, match="made-up:far") as told:
        result = evaluate(model, (x, y), Far(threat=ball), doubts=False)
    (said,) = [str(each.message) for each in told]
    right = result.correct
    assert said == (
        f"made-up:far found no adversarial picture within L2 0.1; of the {int(right.sum())} that it found beyond, the nearest "
        f"lies at {float(distance[right].min()):.4g}, the median at {statistics.median(distance[right].tolist()):.4g}."
    )
    assert not bool(result.outcomes[0].success.any())


def test_an_attack_that_found_nothing_at_all_or_something_in_the_ball_tells_nothing_of_that():
    model, x, y = trained()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(model, (x, y), Far(threat=L2(0.1), lost=True), doubts=False)
        evaluate(model, (x, y), Far(threat=L2(100)), doubts=False)
