"""The results of a sweep as one HTML page that needs nothing else: no network, no other file, and for reading no script."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from advkit.atomic import write_whole
from advkit.results.grid import Grid, load_grid
from advkit.results.reading import Reading
from advkit.results.report import facts, summary, view
from advkit.results.report.gallery import Gallery, examples_of
from advkit.results.verdicts import verdicts

__all__ = ["policy", "report_page", "waiting_page", "write_report"]

_HERE = Path(__file__).parent
_ROWS_WITHOUT_SCRIPT = 300
_MOST_ROWS = 20_000
# Characters that a name may hold to turn the text around it, or that no page may hold: shown as one that says so.
_TURNING = (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C)
_UNSEEN = dict.fromkeys([*range(9), 11, 12, *range(14, 32), *range(127, 160), *_TURNING], "\N{REPLACEMENT CHARACTER}")
_SCRIPT = ("core", "table", "curves", "examples", "live")
_TEXTS = ("model", "weights", "defense", "data", "norm", "goal", "seed", "precision", "attack", "eps")


def write_report(folder: Path, path: Path) -> None:
    """Write the report of a store. Raises InputError where the folder is no store."""
    page = report_page(load_grid(folder)).encode("utf-8", "replace")
    write_whole(path, lambda beside: beside.write_bytes(page))


def report_page(grid: Grid, *, version: str = "") -> str:
    """The page of a grid. With a ``version`` it is served: it asks whether there is a newer one, and shows it."""
    if not grid.lines and not grid.clean:
        return waiting_page(grid.folder, "The sweep has not finished any examples yet.", version=version)
    rows = view.rows(grid)
    columns = view.row_columns(rows)
    pictures = examples_of(Reading(grid.folder), grid.records, view.attack_texts(grid))
    names = [name for name, _ in columns]
    checks = verdicts(grid)
    return _page(
        version,
        folder=str(grid.folder),
        rows=rows[:_ROWS_WITHOUT_SCRIPT],
        count=len(rows),
        dropped=max(0, len(rows) - _MOST_ROWS),
        columns=columns,
        choices=_choices(rows),
        same=_same(rows, names),
        matrices=summary.matrices(rows, names),
        headlines=summary.headlines(rows),
        findings=summary.findings(rows, checks),
        verdicts=checks,
        incomplete=next((v.sentence for v in checks if v.name == "Every cell is complete" and v.level != "pass"), ""),
        gallery=pictures,
        commands=facts.commands(grid),
        study=facts.study_file(grid),
        networks=facts.models(grid),
        data_sets=facts.data_sets(grid),
        environment=facts.environment(grid),
        hyperparameters=facts.hyperparameters(grid),
        made_up=_made_up(grid),
        of=_counts(rows),
        data=_script_data(rows[:_MOST_ROWS], columns, pictures, version),
    )


def waiting_page(folder: Path, why: str, *, version: str = "") -> str:
    """The page of a store that says nothing yet."""
    data: dict[str, Any] = {"live": bool(version), "version": version, "rows": [], "waiting": True}
    return _page(version, folder=str(folder), waiting=why, made_up=False, data=_json(data))


def policy(*, served: bool = False) -> str:
    """The Content-Security-Policy of the page: its own style and script, pictures inside it, and nothing else."""
    own = " connect-src 'self';" if served else ""
    return (
        f"default-src 'none'; img-src data:; style-src '{_digest(_style())}'; script-src '{_digest(_script())}';{own}"
        " base-uri 'none'; form-action 'none'"
    )


def _page(version: str, **shown: object) -> str:
    template = _environment().get_template("page.html.jinja")
    page = template.render(
        {"waiting": ""} | shown,
        live=bool(version),
        policy=policy(served=bool(version)),
        css=Markup(_style()),  # our own files, in no way the store's
        script=Markup(_script()),
        written=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    )
    return page.translate(_UNSEEN)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"percent": _percent, "number": _number, "duration": _duration, "count": _count}
    return made


@cache
def _style() -> str:
    return _read("page.css")


@cache
def _script() -> str:
    """Its parts in one scope of their own; the last one starts it."""
    return '"use strict";\n(() => {\n' + "\n".join(_read(f"page.{part}.js") for part in _SCRIPT) + "})();\n"


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


@cache
def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _json(found: object) -> Markup:
    """JSON that nothing in it can end early: a name may hold </script>."""
    text = json.dumps(_seen(found), separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def _seen(found: Any) -> Any:
    """The same with every text as the page shows it."""
    if isinstance(found, str):
        return found.translate(_UNSEEN)
    if isinstance(found, dict):
        return {_seen(key): _seen(value) for key, value in found.items()}
    return [_seen(value) for value in found] if isinstance(found, list | tuple) else found


def _script_data(
    rows: Sequence[view.Row], columns: Sequence[tuple[str, str]], pictures: Gallery, version: str
) -> Markup:
    """The rows once more, each name once, for the script."""
    names = {name: list(dict.fromkeys(row.texts[name] for row in rows)) for name in _TEXTS}
    place = {name: {value: number for number, value in enumerate(values)} for name, values in names.items()}
    sizes = {row.texts["eps"]: row.radius for row in rows}
    return _json(
        {
            "live": bool(version),
            "version": version,
            "columns": columns,
            "names": names,
            "who": list({row.setting: row.who for row in rows}.values()),
            "radii": [sizes[eps] if sizes[eps] == sizes[eps] else None for eps in names["eps"]],
            "rows": [
                [
                    ("clean", "attack", "worst").index(row.kind),
                    row.setting,
                    *(place[name][row.texts[name]] for name in _TEXTS),
                    row.standing,
                    row.n,
                    row.wanted,
                    row.low,
                    row.high,
                    row.success,
                    row.controls,
                    None if row.distance is None else float(f"{row.distance:.4g}"),
                    row.passes,
                    row.seconds,
                    int(row.best),
                ]
                for row in rows
            ],
            "clean": pictures.clean,
            "examples": {
                e.key: [
                    e.clean,
                    e.model,
                    e.defense,
                    e.attack,
                    e.norm,
                    e.eps,
                    e.index,
                    e.label,
                    e.prediction,
                    e.distance,
                    e.shrunk,
                ]
                for e in pictures.examples
            },
        }
    )


def _choices(rows: Sequence[view.Row]) -> list[tuple[str, str, list[str]]]:
    """What the table can be narrowed by: columns with more than one value."""
    titles = (("model", "Model"), ("defense", "Defense"), ("attack", "Attack"), ("eps", "Radius"))
    found = [(name, title, view.names_of(rows, name)) for name, title in titles]
    return [(name, title, values) for name, title, values in found if len(values) > 1]


def _same(rows: Sequence[view.Row], names: Sequence[str]) -> list[tuple[str, str]]:
    """What is the same on every line, and so has no column."""
    shown = [row for row in rows if row.kind != "clean"] or rows
    return [
        (name, shown[0].texts[name])
        for name in ("data", "norm", "goal", "seed", "weights")
        if name not in names and len({row.texts[name] for row in shown}) == 1
    ]


def _counts(rows: Sequence[view.Row]) -> dict[str, int]:
    return {
        "models": len({row.texts["model"] for row in rows}),
        "defenses": len({row.texts["defense"] for row in rows} - {"none"}),
        "bare": any(row.texts["defense"] == "none" for row in rows),
        "attacks": len(summary.attacks_of(rows)),
        "radii": len({row.texts["eps"] for row in rows} - {""}),
        "data": len({row.texts["data"] for row in rows}),
        "most": max(row.n for row in rows),
        "least": min(row.n for row in rows),
    }


def _made_up(grid: Grid) -> bool:
    return any(record.about.get("made_up") for record in grid.records) or bool(
        grid.study and grid.study.about.get("made_up")
    )


# Written twice, here for the page as it arrives and in page.core.js for the page as it is sorted; a test holds them together.


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _count(value: int) -> str:
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= limit:
            return f"{value / min(limit, 1e9 if unit == 'G' else 1e6 if unit == 'M' else 1e3):.1f} {unit}"
    return f"{value:,}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
