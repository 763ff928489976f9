"""What the figure shows is what the model says, and for FGSM the very sign of the gradient."""

from __future__ import annotations

import pytest
import torch
from helpers import conv_net, linear, pictures

from advkit.attacks import FGSM, PGD
from advkit.core import L2, Linf, Targeted, Untargeted
from advkit.engine.panels import panels


def test_the_middle_of_fgsm_is_the_sign_that_was_added() -> None:
    model = linear(dtype=torch.float32).train()
    x = pictures(3, dtype=torch.float32, margin=0.2)
    goal = Untargeted(model(x).argmax(1))
    attack = FGSM(Linf("8/255"))
    x_adv = attack(model, x, goal)
    shown = panels(model, attack, x, x_adv, goal, ("a", "b", "c"))
    assert model.training
    for i, panel in enumerate(shown):
        assert panel.title == "8/255 × sign of the gradient"
        assert set(panel.perturbation.unique().tolist()) == {0.0, 1.0}
        torch.testing.assert_close(x[i] + (2 * panel.perturbation - 1) * 8 / 255, x_adv[i])
        for answer, picture in (
            (panel.clean, x[i]),
            (panel.between, panel.perturbation),
            (panel.adversarial, x_adv[i]),
        ):
            assert answer is not None
            scores = model(picture[None]).detach().softmax(1)[0]
            assert answer.label == "abc"[int(scores.argmax())]
            assert answer.confidence == pytest.approx(float(scores.max()), abs=1e-5)


@pytest.mark.parametrize("attack", [PGD(Linf(0.05), steps=3), PGD(L2(0.5), steps=3), FGSM(L2(0.5))])
def test_other_changes_are_scaled_to_be_seen(attack: PGD) -> None:
    model = conv_net(dtype=torch.float32)
    x = pictures(2, dtype=torch.float32)
    goal = Targeted((model(x).argmax(1) + 1) % 5)
    x_adv = attack(model, x, goal)
    for i, panel in enumerate(panels(model, attack, x, x_adv, goal, ())):
        change = 2 * panel.perturbation - 1
        assert float(change.abs().max()) == pytest.approx(1)
        most = float((x_adv[i] - x[i]).abs().max())
        torch.testing.assert_close(change * most, x_adv[i] - x[i], rtol=1e-3, atol=1e-5)
        assert panel.between is None
        assert f"at most {255 * most:.3g}/255" in panel.title
        assert panel.clean.label.startswith("class ")


def test_no_change_at_all_is_gray() -> None:
    model = conv_net(dtype=torch.float32)
    x = pictures(1, dtype=torch.float32)
    (panel,) = panels(model, PGD(steps=1), x, x, Untargeted(model(x).argmax(1)), ())
    assert (panel.perturbation == 0.5).all()
