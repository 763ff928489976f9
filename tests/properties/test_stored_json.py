"""Stored JSON: what is written is read back, and whatever else a file holds ends in one of advkit's own errors."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advkit.documents import parse_json, parse_toml
from advkit.engine.recipe import Recipe
from advkit.engine.specs import DataSpec, ModelSpec, settings_of
from advkit.engine.study import parse_study, write_study
from advkit.engine.toml import toml_table
from advkit.errors import AdvkitError, InputError
from advkit.results.cell import Cell, Facts, Stage
from advkit.results.facts import FACTS, read_facts_of
from advkit.results.store import Record, Store

WORDS = st.text(st.characters(blacklist_categories=("Cs",)), max_size=8)
PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), WORDS
)
JSON = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4), max_leaves=12
)
RADII = st.lists(st.integers(1, 255).map(lambda n: f"{n}/255"), min_size=1, max_size=3, unique=True)


@st.composite
def cells(draw: st.DrawFn) -> Cell:
    radii = tuple(sorted(draw(RADII), key=lambda text: int(text[:-4])))
    stages = draw(st.lists(st.tuples(WORDS, st.booleans()), max_size=3))
    made = tuple(Stage(name, tuple(f"{name}({radius})" for radius in radii), nested) for name, nested in stages)
    return Cell(
        draw(WORDS),
        draw(WORDS),
        draw(WORDS),
        draw(WORDS),
        made,
        "linf",
        radii,
        draw(WORDS),
        seed=draw(st.integers(0, 2**63 - 1)),
    )


@given(cells())
def test_a_cell_is_read_back_with_its_key(cell: Cell) -> None:
    again = Cell.from_json(parse_json(json.dumps(cell.to_json()), "cell.json"))
    assert again == cell
    assert again.key == cell.key


@given(st.text(max_size=60) | JSON.map(json.dumps) | st.binary(max_size=40))
def test_any_text_is_json_or_one_sentence(text: str | bytes) -> None:
    for parse in (parse_json, parse_toml):
        if parse is parse_toml and isinstance(text, bytes):
            continue
        try:
            parse(text, "the text")  # type: ignore[arg-type]
        except InputError as error:
            assert str(error).startswith("the text cannot be read: ")
            assert str(error).endswith(".")


@given(JSON)
def test_json_is_read_as_it_was_written(found: Any) -> None:
    assert parse_json(json.dumps(found), "x") == found


@given(
    st.dictionaries(
        WORDS, st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), WORDS), max_size=5
    )
)
def test_toml_is_read_as_it_was_written(rows: dict[str, Any]) -> None:
    assert parse_toml(toml_table("[a]", rows), "x") == {"a": rows}


def _spoilt(found: Any, draw: st.DrawFn) -> Any:
    """The same JSON with another value, or none, in one place."""
    if isinstance(found, dict) and found and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(found)))
        if not draw(st.integers(0, 4)):
            return {name: value for name, value in found.items() if name != key}
        return {**found, key: _spoilt(found[key], draw)}
    if isinstance(found, list) and found and draw(st.integers(0, 3)):
        index = draw(st.integers(0, len(found) - 1))
        return [*found[:index], _spoilt(found[index], draw), *found[index + 1 :]]
    return draw(JSON)


@given(cells(), st.data())
def test_a_cell_file_with_another_value_is_a_cell_or_one_of_our_errors(
    tmp_path: Path, cell: Cell, data: st.DataObject
) -> None:
    store = Store(tmp_path / "store").create()
    (store.folder / "cells" / cell.key).mkdir(parents=True, exist_ok=True)
    found = _spoilt({"cell": cell.to_json(), "about": {"weights": "w", "classes": ["a"]}}, data.draw)
    (store.folder / "cells" / cell.key / "cell.json").write_text(json.dumps(found))
    try:
        record = store.record(cell.key)
    except AdvkitError:
        return
    assert record is None or isinstance(record, Record)


_RUN = {
    "run": Recipe(ModelSpec("lenet"), DataSpec("signs"), 2, "none", "h", ("a", "b")).to_json(),
    **dict.fromkeys(("model", "weights", "data", "norm", "goal", "precision", "device", "defense"), "text"),
    **dict.fromkeys(("targets", "repeated")),
    "seed": 0, "facts": {}, "classes": ["a", "b"], "labels": [0, 1], "predictions": [0, 1],
    "outcomes": [],
}  # fmt: skip


@given(st.data())
def test_saved_facts_with_another_value_are_read_or_one_of_our_errors(tmp_path: Path, data: st.DataObject) -> None:
    (tmp_path / FACTS).write_text(json.dumps(_spoilt(_RUN, data.draw)))
    try:
        read_facts_of(tmp_path)
    except AdvkitError as error:
        assert "\n" not in str(error)


@given(
    WORDS,
    WORDS,
    st.dictionaries(WORDS, st.integers() | WORDS, max_size=3),
    st.integers(1, 10**6),
    st.integers(0, 2**63 - 1),
)
def test_a_recipe_is_read_back(model: str, data: str, chosen: dict[str, Any], samples: int, seed: int) -> None:
    made = Recipe(
        ModelSpec(model, settings=settings_of(chosen), seed=seed),
        DataSpec(data, settings_of(chosen)),
        samples,
        "none",
        "hash",
        ("one",),
    )
    assert Recipe.from_json(json.loads(json.dumps(made.to_json()))) == made


STUDY = """[study]
data = "signs"
samples = 2
eps = ["8/255"]
seed = 0
[[model]]
model = "lenet"
[[attack]]
attack = "pgd"
steps = 3
"""
VALUES = st.one_of(
    st.integers(-5, 2**70),
    st.floats(),
    WORDS.map(json.dumps),
    st.sampled_from(["[]", "{}", "true", "[1, 'a']", "[[]]", "1979-05-27", '"os:system:x"']),
)


@given(st.sampled_from(range(10)), VALUES)
def test_a_study_with_another_value_is_a_sweep_or_one_sentence(number: int, value: object) -> None:
    lines = STUDY.splitlines()
    key, equals, _ = lines[number].partition(" = ")
    lines[number] = f"{key} = {value}" if equals else f"[{key}]"
    try:
        wanted = parse_study("\n".join(lines))
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert parse_study(write_study(wanted)) == wanted


@settings(max_examples=40)
@given(st.integers(1, 6), st.integers(0, 2), st.integers(1, 3), st.integers(0, 10**6))
def test_facts_are_read_back_from_a_shard(
    tmp_path_factory: pytest.TempPathFactory, count: int, stages: int, radii: int, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    shape = (stages, radii if stages else 0, count)
    whole = {name: draw.integers(0, 5, shape) for name in ("prediction", "steps", "forwards", "backwards")}
    truths = {name: draw.integers(0, 2, shape).astype(bool) for name in ("attacked", "success", "tested")}
    index, labels, clean = np.arange(count), draw.integers(0, 3, count), draw.integers(0, 3, count)
    facts = Facts(
        index=index,
        labels=labels,
        clean=clean,
        distance=draw.random(shape),
        seconds=draw.random(shape[:2]),
        **whole,
        **truths,
    )
    made = tuple(Stage(str(n), ("a",) * radii) for n in range(stages))
    cell = Cell("m", "h", f"{seed}", stages=made, radii=tuple(f"{n + 1}/255" for n in range(radii if stages else 0)))
    store = Store(tmp_path_factory.mktemp("sweep") / "store").create()
    store.add(Record(cell))
    store.write(cell, (0, count), facts)
    again = store.facts(cell)
    assert again is not None
    for name, array in facts.per_example().items():
        assert np.array_equal(getattr(again, name), array), name
    assert math.isclose(again.seconds.sum(), facts.seconds.sum())
