"""What a table is of, and how it is to be read: only what is in it is explained. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from advkit.results.baseline import Versus
from advkit.results.grid import UNDEFENDED, Grid, Line
from advkit.results.pivot import Pivot
from advkit.results.verdict import counted

__all__ = ["FEWER", "MADE_UP", "UNDONE", "caption", "title"]

UNDONE, FEWER = "†", "‡"
MADE_UP = "MADE-UP RESULTS"
_MEANT = {"seed": "seeds", "weights": "weights", "model": "models"}


def title(pivot: Pivot) -> str:
    """What holds of all lines."""
    lines = [line for group in pivot.cells.values() for line in group]
    data = list(dict.fromkeys(line.data or line.cell.data_hash[:8] for line in lines))
    done = sorted({line.wanted for line in lines})
    norms = list(dict.fromkeys(line.cell.norm for line in lines if line.cell.norm))
    goals = list(dict.fromkeys(line.cell.goal for line in lines if line.cell.goal != "untargeted"))
    count = f"{done[0]:,}" if len(done) == 1 else f"{done[0]:,} to {done[-1]:,}" if done else "0"
    parts = [f"{pivot.value.title} on {', '.join(data)}, n = {count}", ", ".join(norms)]
    parts += [f"targeted: {', '.join(goals)}" if goals else "", MADE_UP if any(line.made_up for line in lines) else ""]
    return ", ".join(filter(None, parts))


def caption(
    pivot: Pivot,
    grid: Grid,
    *,
    intervals: bool,
    layout: str,
    bold: bool,
    ties: bool,
    versus: Mapping[int, Versus] | None,
    base: str,
) -> str:
    """How to read the table."""
    lines = [line for group in pivot.cells.values() for line in group]
    said = [pivot.value.said, _spread(pivot, intervals, layout)]
    if pivot.best and bold:
        which = "highest" if pivot.value.best > 0 else "lowest"
        among = "its column" if pivot.best_of_columns else "the cells of the same attack, radius and data"
        close = (
            ", and what cannot be told from it (McNemar's exact test on the same examples, Holm-adjusted, p >= 0.05)"
        )
        said.append(f"Bold: the {which} of {among}{close if ties else ''}.")
    controls = dict.fromkeys(line.controls[0][0] for line in lines if line.controls)
    if controls and not pivot.mean and any(pivot.value.share(line) for line in lines):
        named = ", ".join(controls)
        said.append(f"Control: success % of the same without a search ({named}), of the examples right without attack.")
    said += [*_of_attacks(pivot, lines), *_marks(pivot, lines)]
    if versus is not None and not versus:
        said.append(f"No line has its like in {base}, so that nothing is compared.")
    elif versus:
        tests = counted(len(versus), "test")
        said.append(
            f"The signed number is the difference to {base} on the same examples, in points"
            f"{', with its 95 % paired bootstrap interval' if intervals else ''}; * p < 0.05, ** p < 0.01, *** p < 0.001 "
            f"by McNemar's exact test, Holm-adjusted for the {tests} of this table."
        )
    said += [f"{name}: {what}." for name, what in pivot.settings.items()]
    if grid.hidden:
        cells = "1 cell of older code or an older run is" if grid.hidden == 1 else None
        said.append(
            f"{cells or f'{grid.hidden:,} cells of older code or an older run are'} hidden (--outdated shows them)."
        )
    if any(line.made_up for line in lines):
        said.append(f"{MADE_UP}: nothing here was measured.")
    return " ".join(filter(None, said))


def _spread(pivot: Pivot, intervals: bool, layout: str) -> str:
    if pivot.mean:
        counts = sorted({len(group) for group in pivot.cells.values() if group[0].eps}) or [1]
        many = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        over = f"Mean over {many} {' and '.join(_MEANT[key] for key in pivot.mean)}"
        return f"{over}; behind ± the standard deviation." if intervals and counts[-1] > 1 else f"{over}."
    if not intervals or not any(pivot.value.share(line) for line in pivot.lines.values()):
        return ""
    what = "success" if pivot.value.said else "accuracy"
    return f"{'Behind' if layout == 'beside' else 'Below'} each {what} its 95 % Wilson interval."


def _of_attacks(pivot: Pivot, lines: Iterable[Line]) -> list[str]:
    """What names of attacks mean."""
    lines = list(lines)
    said = []
    if any(line.made_on == UNDEFENDED for line in lines):
        name = "Undefended" if "surrogate" in (*pivot.rows, *pivot.columns) else "Oblivious"
        said.append(f"{name}: made on the model without its defense, and replayed.")
    if any(line.surrogate and not line.over for line in lines) and "surrogate" not in (*pivot.rows, *pivot.columns):
        said.append("Via a model: made on that model, and shown to this one once.")
    if any(line.title != line.cell.attack for line in lines if line.cell.stages and not line.over and line.eps):
        said.append("Behind a colon stands a stage of an attack: what is left after it and those before it.")
    if any(line.over for line in lines) and pivot.value.bare:
        said.append("Worst case: right under every attack at the radius, example by example.")
    elif any(line.over for line in lines):
        said.append("Worst case: of all attacks at the radius together, example by example.")
    return said


def _marks(pivot: Pivot, lines: Iterable[Line]) -> list[str]:
    said = []
    undone = [line for line in lines if line.n < line.wanted]
    if undone:
        least = min(undone, key=lambda line: line.n / line.wanted)
        said.append(f"{UNDONE} not all examples are done yet (fewest: {least.n:,} of {least.wanted:,}); never in bold.")
    lacking = sorted({name for line in lines for name in line.lacking})
    if lacking:
        said.append(f"{UNDONE} a worst case without what is not begun yet ({', '.join(lacking)}); never in bold.")
    if pivot.narrow:
        said.append(f"{FEWER} the worst case over fewer attacks than in other rows; never in bold.")
    return said
