"""A defense of one's own: a module that maps pictures to pictures, put in front of a model.

advkit attack --defense examples/own_defense.py:Coarse --attack pgd
advkit check --defense examples/own_defense.py:Coarse
"""

from torch import Tensor, nn


class Coarse(nn.Module):
    """Few grey levels. Rounding has no gradient, so an attack is told to pass it as if it were not there (BPDA)."""

    backward = "straight-through"  # leave it out where the gradient is a real one; random = True where it draws

    def __init__(self, levels: str = "6") -> None:
        super().__init__()
        self.levels = int(levels)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures (B, C, H, W) in [0, 1], each by itself."""
        return (x * (self.levels - 1)).round() / (self.levels - 1)


if __name__ == "__main__":
    import advkit

    print(advkit.evaluate("resnet", "signs", "pgd", samples=16, defense=f"{__file__}:Coarse:4"))
