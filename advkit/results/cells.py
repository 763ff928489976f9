"""The cells of a store, listed and shown. No torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from advkit.errors import InputError, nearest
from advkit.results.grid import newest
from advkit.results.reading import Reading
from advkit.results.store import Record
from advkit.results.table import Table

__all__ = ["list_table", "listed", "merged", "one", "show_lines", "shown"]


_TOLD_APART = ("weights", "data", "norm", "goal", "seed")  # of an attacked cell; shown where they differ


def listed(reading: Reading, chosen: Callable[[Sequence[Record]], Sequence[Record]]) -> list[dict[str, Any]]:
    """What a list says of each chosen cell; of one that the last sweep did not ask for, it is not known how much is wanted."""
    study = reading.study()
    wanted = study.samples if study else {}
    every = reading.records(study)
    current, records = {record.cell.key for record in newest(every, study)}, chosen(every)
    places = {key: place for place, key in enumerate(wanted)}
    found = []
    for record in sorted(records, key=lambda record: places.get(record.cell.key, len(places))):
        cell, about = record.cell, record.about
        done = sum(end - begin for begin, end in merged(reading.spans(cell)))
        found.append(
            {
                "key": cell.key,
                "model": cell.model,
                "weights": about.get("weights", ""),
                "defense": cell.defense,
                "data": about.get("data", ""),
                "norm": cell.norm,
                "goal": cell.goal,
                "seed": cell.seed,
                "attack": cell.attack,
                "radii": list(cell.radii),
                "done": done,
                "wanted": wanted.get(cell.key),
                "code": cell.code,
                "outdated": cell.key not in current,
                "made": about.get("made", ""),
            }
        )
    return found


def list_table(cells: Sequence[dict[str, Any]], full: bool) -> Table:
    """The list for a screen; ``full`` has every column, for programs."""
    if full:
        heads = tuple(cells[0]) if cells else ()
        rows = [tuple(_text(value) for value in cell.values()) for cell in cells]
        return Table(heads, tuple(rows), align="l" * len(heads))
    more = [key for key in _TOLD_APART if len({cell[key] for cell in cells if cell["radii"]}) > 1]
    rows = [
        (
            cell["key"][:8],
            cell["model"],
            cell["defense"],
            *(str(cell[key]) if cell["radii"] else "" for key in more),
            cell["attack"],
            " ".join(cell["radii"]),
            f"{cell['done']}/{'?' if cell['wanted'] is None else cell['wanted']}",
            f"{cell['code'][:8]}{' (old)' if cell['outdated'] else ''}",
            cell["made"][:16].replace("T", " "),
        )
        for cell in cells
    ]
    done = sum(cell["wanted"] is not None and cell["done"] >= cell["wanted"] for cell in cells)
    asked = sum(cell["wanted"] is not None for cell in cells)
    return Table(
        ("key", "model", "defense", *more, "attack", "radii", "done", "code", "made"),
        tuple(rows),
        align=f"lll{'l' * len(more)}llrll",
        caption=f"{len(cells):,} cells; of the {asked:,} that the last sweep asked for, {done:,} are done. "
        f"advkit results show DIR KEY says all of one; the beginning of a key is enough.",
    )


def one(reading: Reading, key: str) -> Record:
    """The cell whose key begins so. Raises InputError where none does, or several do."""
    store = reading.store
    keys = store.cell_keys()
    found = [each for each in keys if each.startswith(key)]
    if len(found) > 1 and key not in found:
        raise InputError(
            f"{len(found)} cells have a key that begins with {key}: {', '.join(found[:4])} ...; give more of it."
        )
    record = store.record(key if key in found else found[0]) if found else None
    if record is None:
        raise InputError(f"{store.folder} has no cell {key}.{nearest(key, keys)} advkit results list shows all keys.")
    return record


def shown(reading: Reading, record: Record) -> dict[str, Any]:
    """Everything that is recorded about a cell."""
    study = reading.study()
    wanted = (study.samples if study else {}).get(record.cell.key)
    return {
        "key": record.cell.key,
        "cell": record.cell.to_json(),
        "about": dict(record.about),
        "done": [list(span) for span in merged(reading.spans(record.cell))],
        "wanted": wanted,
        "pictures": len(reading.pictures(record.cell)),
    }


def show_lines(found: dict[str, Any]) -> list[str]:
    """The same as lines of text: a name and what it is."""
    cell = {name: value for name, value in found["cell"].items() if name != "stages"}
    rows: list[tuple[str, object]] = [("key", found["key"]), *cell.items()]
    for stage in found["cell"]["stages"]:
        radii = zip(cell["radii"], stage["attacks"], strict=False)
        rows += [(f"{stage['name']} at {eps}", attack) for eps, attack in radii]
    rows += [*found["about"].items(), ("examples done", ", ".join(f"{a} to {b}" for a, b in found["done"]) or "none")]
    rows += [("examples wanted", "not known" if found["wanted"] is None else found["wanted"])]
    rows += [("pictures kept", found["pictures"])]
    wide = max(len(name) for name, _ in rows)
    return [f"{name:{wide}}  {_text(value)}" for name, value in rows]


def merged(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans that touch, as one."""
    found: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((begin, end))
    return found


def _text(value: object) -> str:
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return ", ".join(value)
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
