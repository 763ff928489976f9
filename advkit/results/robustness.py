"""The tables of one evaluation: its robustness table, its classes, and the long form for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from advkit.results.cell import not_oblivious
from advkit.results.outcome import Evaluation, Repeated, Row, with_defense
from advkit.results.statistics import short
from advkit.results.table import Table

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["long_table", "per_class_table", "robustness_table"]

_NUMBERS = ("accuracy", "low", "high", "success", "median_distance", "forwards", "backwards", "seconds")

_HEADS = ("attack", "eps", "accuracy %", "success %", "median distance", "passes f+b", "seconds")
_CONTROL = ("control", "control_success", "control_low", "control_high")
_REPEATED = tuple(f"repeats_{name}" for name in ("k", "mean", "low", "high", "least", "most"))
_RELOADED = ("accuracy", "success", "low", "high", "over")


def robustness_table(result: Evaluation) -> Table:
    """Clean accuracy, a row per attack, and the worst case over all of them at each radius."""
    clean = result.clean_accuracy
    controlled = any(row.controls for row in result.rows())
    filed = any(row.reloaded for row in result.rows())
    none = ("-",) * (4 + controlled + filed)
    rows: list[tuple[str, ...]] = [("none (clean)", "-", clean.percent, *none)]
    if result.undefended is not None:
        rows.insert(0, ("none, without the defense", "-", result.undefended.percent, *none))
    rows += [_cells(row, controlled, filed) for row in result.rows()]
    worst = [("worst case", eps, accuracy.percent, *none) for eps, accuracy in result.worst()]
    for place, accuracy in enumerate(result.worst_reloaded()):
        worst[place] = (*worst[place][:4], f"{100 * accuracy.value:.1f} / -", *worst[place][5:])
    staged = any(row.follows for row in result.rows())
    caption = (
        "accuracy with its 95 % Wilson interval; success: of the examples that were right without attack; "
        "passes: forward and backward, of one example each."
    )
    if staged:
        caption += " '+' rows met only what the rows above left standing."
    if controlled:
        caption += f" Control: success of the same without a search ({_said_of_controls(result)})."
    if filed:
        over, files = _over(result)
        caption += (
            f" Files: accuracy and success of the pictures in 8 bits, as read from the disk; of {files:,} files {over:,} "
            "lie outside their radius."
        )
    if any(outcome.name != not_oblivious(outcome.name) for outcome in result.outcomes):
        caption += " Oblivious: made on the model without its defense, and replayed."
    if (other := result.surrogate) is not None:
        caption += (
            f" Via {other.model}: made on that model (weights {other.weights}, {other.accuracy.percent} % right on these "
            "examples), and shown to this one once."
        )
    table = Table(
        (*_HEADS[:4], *(("files %",) if filed else ()), *(("control %",) if controlled else ()), *_HEADS[4:]),
        (*rows, *worst),
        align="llrrrrr" + "r" * (controlled + filed),
        strong=tuple(range(len(rows), len(rows) + len(worst))),
        caption=caption,
        title=_title(result),
    )
    return table if result.repeated is None else _with_repeats(table, result, result.repeated)


def _with_repeats(table: Table, result: Evaluation, clean: Tensor) -> Table:
    """The table with a column more: accuracy over repeated verdicts."""
    each = _repeats(result, clean)
    return replace(
        table,
        heads=(*table.heads[:3], f"over {len(clean)} repeats %", *table.heads[3:]),
        rows=tuple(
            (*row[:3], "-" if repeated is None else repeated.text, *row[3:])
            for row, repeated in zip(table.rows, each, strict=True)
        ),
        align=f"{table.align[:3]}r{table.align[3:]}",
        caption=f"{table.caption} Over repeats: the same pictures under other draws, the mean with its 95 % Wilson interval"
        " over the examples, the least and the most.",
    )


def _repeats(result: Evaluation, clean: Tensor) -> list[Repeated | None]:
    """Accuracy over repeated verdicts in each row of a table, classes aside."""
    before = [] if result.undefended is None else [None]
    return [*before, Repeated.of(clean), *(row.repeats for row in result.rows()), *result.worst_repeats()]


def per_class_table(result: Evaluation) -> Table:
    """Clean and worst-case accuracy of each class."""
    rows = [
        (name, str(n), f"{100 * right / n:.1f}", *(f"{100 * standing / n:.1f}" for standing in left))
        for name, n, right, left in result.per_class()
    ]
    heads = ("class", "n", "clean %", *(f"worst at {eps} %" for eps in result.radii))
    return Table(heads, tuple(rows), align="l" + "r" * (len(heads) - 1), title=_title(result))


def long_table(result: Evaluation, per_class: bool = False) -> Table:
    """One number per cell and what it is of in every row: for programs, and to be put below those of other runs."""
    more = _CONTROL if any(row.controls for row in result.rows()) else ()
    files = _RELOADED if any(row.reloaded for row in result.rows()) else ()
    heads = (
        "model",
        "weights",
        "defense",
        "data",
        "n",
        "norm",
        "goal",
        "seed",
        "class",
        "attack",
        "eps",
        *_NUMBERS,
        *more,
        *(f"reloaded_{name}" for name in files),
    )
    of = (
        result.model,
        result.weights,
        result.defense,
        result.data,
        str(len(result)),
        result.norm,
        result.goal,
        str(result.seed),
    )
    none = ("",) * (len(_NUMBERS) - 3 + len(more) + len(files))

    def shares(name: str, attack: str, eps: str, values: Sequence[object]) -> tuple[str, ...]:
        return (*of, name, attack, eps, *map(str, values), *none)

    rows = [shares("", "none", "", result.clean_accuracy)]
    if result.undefended is not None:
        rows.insert(0, shares("", "none, without the defense", "", result.undefended))
    for row in result.rows():
        found = row.to_json()
        cells = ("" if found[key] is None else str(found[key]) for key in ("attack", "eps", *_NUMBERS))
        first = [(name, *map(str, success)) for name, success in row.controls[:1]]
        read = {} if row.reloaded is None else row.reloaded.to_json()
        again = (str(read.get(name, "")) for name in files)
        rows.append((*of, "", *cells, *(first[0] if first else ("",) * len(more)), *again))
    rows += [shares("", "worst case", eps, accuracy) for eps, accuracy in result.worst()]
    for name, n, right, left in result.per_class() if per_class else ():
        rows.append(shares(name, "none", "", (right / n, "", "")))
        rows += [
            shares(name, "worst case", eps, (kept / n, "", "")) for eps, kept in zip(result.radii, left, strict=True)
        ]
    table = Table(heads, tuple(rows), align="l" * 11 + "r" * (len(_NUMBERS) + len(more) + len(files)))
    if result.repeated is None:
        return table
    each = _repeats(result, result.repeated)
    each += [None] * (len(rows) - len(each))
    last = [[""] * len(_REPEATED) if one is None else list(map(str, one.to_json().values())) for one in each]
    return replace(
        table,
        heads=(*heads, *_REPEATED),
        rows=tuple((*cells, *repeats) for cells, repeats in zip(table.rows, last, strict=True)),
        align=table.align + "r" * len(_REPEATED),
    )


def _title(result: Evaluation) -> str:
    aim = "" if result.goal == "untargeted" else f", targeted: {result.goal}"
    return (
        f"{result.model} (weights {result.weights}){with_defense(result.defense)} on {result.data}, n = {len(result)}, "
        f"{result.norm}{aim}, seed {result.seed}"
    )


def _said_of_controls(result: Evaluation) -> str:
    """The controls of a table, in words: what each name means."""
    covers = result.norm in ("area", "l0")
    words = {
        "random": "random: one draw at random",
        "grey": f"grey: {'a grey piece of the same area' if covers else 'the whole picture under a grey veil'}",
        "dark": "dark: the whole picture darkened",
    }
    names = dict.fromkeys(name for row in result.rows() for name, _ in row.controls)
    return "; ".join(words.get(name, name) for name in names)


def _control(row: Row) -> str:
    """``random 38.0 [32.6, 43.7], grey 5.0``: the first with its interval."""
    shown = [
        f"{name} {success.percent if not place else format(100 * success.value, '.1f')}"
        for place, (name, success) in enumerate(row.controls)
    ]
    return ", ".join(shown) or "-"


def _over(result: Evaluation) -> tuple[int, int]:
    """How many files lie outside their radius, and how many there are."""
    over = sum(row.reloaded.over for row in result.rows() if row.reloaded)
    return over, sum(int(each.attacked.sum()) for each in result.outcomes if each.reloaded is not None)


def _filed(row: Row) -> str:
    """``35.0 / 65.0``: accuracy and success of the files."""
    files = row.reloaded
    return "-" if files is None else f"{100 * files.accuracy.value:.1f} / {100 * files.success:.1f}"


def _cells(row: Row, controlled: bool, filed: bool) -> tuple[str, ...]:
    return (
        f"+ {row.attack}" if row.follows else row.attack,
        row.eps,
        row.accuracy.percent,
        f"{100 * row.success:.1f}",
        *((_filed(row),) if filed else ()),
        *((_control(row),) if controlled else ()),
        "-" if row.median_distance is None else f"{row.median_distance:.4g}",
        f"{short(row.forwards)}+{short(row.backwards)}",
        f"{row.seconds:.1f}",
    )
