"""A table as HTML."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from advkit.results.table import Table

__all__ = ["html", "html_page"]


def html(table: Table) -> str:
    """A table element, everything in it escaped."""
    caption = "<br>".join(escape(text) for text in (table.title, table.caption) if text)
    lines = ["<table>", *([f"<caption>{caption}</caption>"] if caption else []), "<thead>"]
    if table.over:
        above = (
            f'<th colspan="{count}" scope="colgroup">{escape(head)}</th>' if head else "<td></td>" * count
            for head, count in table.spans
        )
        lines.append(f"<tr>{''.join(above)}</tr>")
    sides = ["" if side == "l" else ' class="number"' for side in table.align]
    heads = (f'<th{side} scope="col">{_lines(head)}</th>' for side, head in zip(sides, table.heads, strict=True))
    lines += [f"<tr>{''.join(heads)}</tr>", "</thead>", "<tbody>"]
    for number, row in enumerate(table.rows):
        cells = (
            f"<td{sides[place]}>{f'<b>{_lines(bold)}</b>' if bold else ''}{_lines(rest)}</td>"
            for place, (bold, rest) in enumerate(table.halves(number, place) for place in range(len(row)))
        )
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</tbody>", "</table>"])


def html_page(table: Table) -> str:
    """A page of its own around the table element."""
    title = escape(table.title or "advkit table")
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{title}</title>\n'
        f"<style>{_STYLE}</style></head>\n<body>\n{html(table)}\n</body>\n</html>"
    )


def _lines(text: str) -> str:
    return escape(text).replace("\n", "<br>")


_STYLE = (
    ":root{color-scheme:light dark}body{font:15px/1.4 system-ui,sans-serif;margin:2em;overflow-x:auto}"
    "table{border-collapse:collapse;border-top:2px solid;border-bottom:2px solid}"
    "caption{text-align:left;margin-bottom:.7em;max-width:min(60em,calc(100vw - 4em));opacity:.75}"
    "th,td{padding:.25em .7em;text-align:left;vertical-align:top;white-space:nowrap}"
    "th[colspan]{text-align:center}thead tr:last-child>*{border-bottom:1px solid}"
    ".number{text-align:right;font-variant-numeric:tabular-nums}"
)
