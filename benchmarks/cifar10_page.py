"""Write docs/cifar10.md from the store that `advkit sweep benchmarks/cifar10.toml --out DIR` filled.

python benchmarks/cifar10_page.py DIR
"""

from __future__ import annotations

import sys
from pathlib import Path

from advkit.results.grid import load_grid
from advkit.results.pivot import pivoted
from advkit.results.pivot_table import pivot_table
from advkit.results.store import Store
from advkit.results.table import RENDERERS

PAGE = Path(__file__).parent.parent / "docs" / "cifar10.md"
TEXT = """# Six CIFAR-10 models

<!-- needs: data -->
```console
$ advkit sweep benchmarks/cifar10.toml --out cifar10
$ advkit table cifar10 --rows model,attack --columns eps --format markdown
```

Published weights (a standard ResNet, three adversarially trained networks, two provably trained ones), the first {n} test
pictures, every Linf attack of the registry (with its default settings, but that `nes` and `spsa` have 2,000 queries); radii are
searched nested where the attack searches ([nested.md](nested.md)), and a minimal-norm attack runs once for all of them.
{passes:.0f} million passes of one picture. The stages of `autoattack` and `standard` stand by their last row.
torch {torch}, {machine}; code {code}. This page is written by `python benchmarks/cifar10_page.py`.

{table}
"""


def main() -> None:
    """Read the store, write the page."""
    study = Store(Path(sys.argv[1])).study()
    if study is None:
        sys.exit("there is no sweep; run it first.")
    grid = load_grid(Path(sys.argv[1]), only=study.samples)
    if any(not line.complete for line in grid.lines):
        sys.exit("the sweep is not finished; run it again, which goes on where it was.")
    about = grid.records[0].about
    table = pivot_table(pivoted(grid, ("model", "attack"), ("eps",)), grid)
    PAGE.write_text(
        TEXT.format(
            n=grid.lines[0].n,
            passes=sum(line.forwards + line.backwards for line in (*grid.lines, *grid.clean)) / 1e6,
            torch=about["torch"],
            machine=about["machine"],
            code=grid.records[0].cell.code[:12],
            table=RENDERERS["markdown"](table),
        )
    )


if __name__ == "__main__":
    main()
