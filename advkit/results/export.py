"""A store in the long form of data frames: one row per line, or one per example of each line. No torch."""

from __future__ import annotations

import csv
import importlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from advkit.atomic import write_whole
from advkit.errors import InputError, MissingExtra, StoreError
from advkit.private import safe_cell
from advkit.results.grid import Grid, Line
from advkit.results.reading import Reading
from advkit.results.row_json import flat_controls

if TYPE_CHECKING:
    import pandas

__all__ = ["check_suffix", "export", "to_pandas"]

SUFFIXES = (".csv", ".parquet", ".json")
_OF = ("model", "weights", "defense", "data", "norm", "goal", "seed", "attack", "eps")
_SPENT = ("steps", "forwards", "backwards")
_FACTS = (
    "index",
    "label",
    "clean_correct",
    "clean_prediction",
    "attacked",
    "prediction",
    "success",
    "distance",
    "stands",
    *_SPENT,
)
_Columns = dict[str, Any]  # a value for all rows, or a sequence of one for each


def check_suffix(out: Path) -> str:
    """The suffix, where something can be written that ends so."""
    if out.suffix.lower() not in SUFFIXES:
        raise InputError(f"--out {out} does not say in which format to write; end it in {', '.join(SUFFIXES)}.")
    return out.suffix.lower()


def to_pandas(grid: Grid, *, examples: bool = False) -> pandas.DataFrame:
    """A data frame: one row per line, or with ``examples`` one per example of each line under an attack.

    Needs pandas: pip install 'advkit[pandas]'.
    """
    frames = _extra("pandas", "a data frame")
    if not examples:
        return frames.DataFrame(flat_controls([line.to_json() for line in _lines(grid)]))
    parts = [frames.DataFrame(columns) for columns in _examples(grid)]
    return frames.concat(parts, ignore_index=True) if parts else frames.DataFrame(columns=[*_OF, *_FACTS])


def export(grid: Grid, out: Path, *, examples: bool = False) -> int:
    """Write the long form to a .csv, .parquet or .json file, whole or not at all; gives the number of rows.

    Examples are written line by line, so that ten million rows need no memory.
    """
    suffix = check_suffix(out)
    parts: Iterator[_Columns]
    parts = _examples(grid) if examples else iter([_columns(flat_controls([line.to_json() for line in _lines(grid)]))])
    write = {".csv": _csv, ".json": _json, ".parquet": _parquet}[suffix]
    if suffix == ".parquet":  # asked for before a file is begun
        _extra("pyarrow", "writing .parquet")
        _extra("pandas", "writing .parquet")
    counted: list[int] = []
    write_whole(out, lambda path: counted.append(write(parts, path)))
    return counted[0]


def _lines(grid: Grid) -> tuple[Line, ...]:
    return (*grid.clean, *grid.lines, *grid.worst)


def _columns(rows: Sequence[Mapping[str, object]]) -> _Columns:
    return {key: [row[key] for row in rows] for key in (rows[0] if rows else ())}


def _examples(grid: Grid) -> Iterator[_Columns]:
    """The examples of each line: the facts of each, and what the line is of.

    Who was not ``attacked``, being wrong without attack or beaten by a stage before, has prediction -1 and no distance.
    """
    clean = {line.cell.setting: line for line in grid.clean if not line.outdated}
    reading, key, facts = Reading(grid.folder), "", None
    for line in grid.lines:
        if line.cell.key != key:  # the lines of a cell follow each other
            read = reading.facts(line.cell)
            key, facts = line.cell.key, None if read is None else read.facts
        if facts is None:
            raise StoreError(f"the examples of the cell {key} are gone from {grid.folder}; is a sweep at work on it?")
        of, own = line.to_json(), facts.take(np.searchsorted(facts.index, line.index))
        at = [stage.name for stage in line.cell.stages].index(line.attack), line.cell.radii.index(str(line.eps))
        distance = np.full(line.n, np.nan) if line.distance is None else line.distance
        yield {name: of[name] for name in _OF} | {
            "index": line.index,
            "label": line.labels,
            "clean_correct": line.clean,
            "clean_prediction": _clean_prediction(line, clean.get(line.cell.setting)),
            "attacked": own.attacked[at],
            "prediction": np.where(own.attacked[at], own.prediction[at], -1),
            "success": np.isfinite(distance),
            "distance": distance,
            "stands": line.stands,
            **{name: getattr(own, name)[at] for name in _SPENT},
        }


def _clean_prediction(line: Line, clean: Line | None) -> Any:
    """From the cell without attack; where that lacks an example that was right, its label; else unknown."""
    found = np.where(line.clean, line.labels, -1).astype(np.int64)
    if clean is not None and clean.prediction is not None:
        _, here, there = np.intersect1d(line.index, clean.index, assume_unique=True, return_indices=True)
        found[here] = clean.prediction[there]
    return found


def _rows(columns: _Columns) -> Iterator[tuple[Any, ...]]:
    """Row by row, with Python's own numbers; a number that is none is None."""
    size = next((len(value) for value in columns.values() if _is_many(value)), 0)
    lists = [
        (value.tolist() if isinstance(value, np.ndarray) else value) if _is_many(value) else [value] * size
        for value in columns.values()
    ]
    for row in zip(*lists, strict=True):
        yield tuple(None if isinstance(value, float) and value != value else value for value in row)


def _is_many(value: object) -> bool:
    return isinstance(value, list | np.ndarray)


def _csv(parts: Iterator[_Columns], path: Path) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for columns in parts:
            if not count:
                writer.writerow(map(safe_cell, columns))
            rows = [tuple(map(safe_cell, row)) for row in _rows(columns)]
            writer.writerows(rows)
            count += len(rows)
        _settle(file)
    return count


def _json(parts: Iterator[_Columns], path: Path) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for columns in parts:
            for row in _rows(columns):
                file.write((",\n" if count else "[\n") + json.dumps(dict(zip(columns, row, strict=True))))
                count += 1
        file.write("\n]\n" if count else "[]\n")
        _settle(file)
    return count


def _parquet(parts: Iterator[_Columns], path: Path) -> int:
    frames, arrow = _extra("pandas", "writing .parquet"), _extra("pyarrow", "writing .parquet")
    parquet = importlib.import_module("pyarrow.parquet")
    writer, count = None, 0
    try:
        for columns in parts:
            table = arrow.Table.from_pandas(frames.DataFrame(columns), preserve_index=False)
            writer = writer or parquet.ParquetWriter(path, table.schema)
            writer.write_table(table)
            count += table.num_rows
        if writer is None:
            parquet.write_table(arrow.table({}), path)
    finally:
        if writer is not None:
            writer.close()
    return count


def _settle(file: IO[str]) -> None:
    """Wait until what was written is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def _extra(package: str, purpose: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise MissingExtra(package, "pandas", purpose) from None
