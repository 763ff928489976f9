"""The masked models of the tests: what plain PGD says of them, what the checks correct it to, and what the bare network keeps.

    python benchmarks/masked.py

Prints the table of docs/checks.md. Accuracy % with 95 % intervals; about a minute on one core.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "engine")]

from fixtures_masked import BALL, MASKED, data, misleading, trained  # noqa: E402
from torch import nn  # noqa: E402

from advkit.attacks import APGD, PGD  # noqa: E402
from advkit.core import Linf  # noqa: E402
from advkit.core.losses import Margin, TargetedMargin  # noqa: E402
from advkit.data import Data  # noqa: E402
from advkit.engine.protocol import examine  # noqa: E402


def kept(net: nn.Module, source: Data, ball: Linf) -> float:
    """Accuracy % of a network in the worst case of PGD on the margin and APGD towards its rivals, 60 steps each."""
    x, y = source.tensors()
    stands = net(x).argmax(1) == y
    rivals = min(9, int(y.max()))
    for attack in (PGD(ball, steps=60, loss=Margin()), APGD(ball, steps=60, loss=TargetedMargin(), targets=rivals)):
        stands = stands & (net(attack(net, x, y, keep="first")).argmax(1) == y)
    return 100 * float(stands.double().mean())


def row(name: str, model: nn.Module, bare: nn.Module, source: Data, ball: Linf) -> None:
    """One line of the table."""
    found = examine(model, source, ball, samples=None)
    codes = ", ".join(dict.fromkeys(finding.code for finding in found.failed)) or "none"
    print(f"| {name} | {codes} | {found.plain.percent} | {found.corrected.percent} | {kept(bare, source, ball):.1f} |")


def main() -> None:
    """All rows."""
    print("| model | checks that fail | plain PGD | corrected | bare network |\n| --- | --- | ---: | ---: | ---: |")
    row("the honest network", trained(), trained(), data(), BALL)
    net, source = misleading()
    row("an undefended network that misleads cross-entropy", net, net, source, Linf(4 / 255))
    for name, masked in MASKED.items():
        row(name, masked.make(), masked.bare(), data(), BALL)


if __name__ == "__main__":
    main()
