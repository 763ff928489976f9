"""Stored results spoilt: JSON key by key and as a whole, bytes flipped, shards of others, code planted."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fuzzing.case import Box, Case, Wanted

__all__ = ["damage", "documents", "faults", "keys", "places_in", "planted"]

_NOTICED, _EITHER = Wanted("noticed"), Wanted("either")
_DEEP = "[" * 100_000 + "]" * 100_000
_QUIET = ("--quiet",)


class Format(NamedTuple):
    """A file of a stored result and the commands that read it; those that promise to notice are told apart."""

    stock: str
    file: str  # a pattern below the stock's folder
    noticing: tuple[tuple[str, ...], ...]
    others: tuple[tuple[str, ...], ...] = ()


_STORE = (("results", "check", "{}"), ("verify", "{}", *_QUIET), ("table", "{}"), ("report", "{}"))
_STORE_TOO = (
    ("results", "list", "{}"),
    ("results", "export", "{}", "--out", "out.csv"),
    ("results", "merge", "merged", "{}"),
    ("results", "compare", "{}", "{stock}/store"),
    ("figure", "{}", "--kind", "curves", "--out", "f.svg"),
    (
        *(
            "sweep",
            "--model",
            "lenet",
            "--quiet",
            "--samples",
            "4",
            "--attack",
            "fgsm",
            "--attack",
            "pgd",
            "--steps",
            "2",
        ),
        *("--eps", "2/255,8/255", "--shard", "2", "--pictures", "2", "--out", "{}"),
    ),
)
_CHECK = ("results", "check", "{}")
_SAVED = (_CHECK, ("verify", "{}", *_QUIET))
_SAVED_TOO = (("show", "{}", "--only", "confusion", *_QUIET),)
_STICKER = (
    ("drive", "{}", "--model", "lenet", "--poses", "10@0", "--draws", "1", *_QUIET),
    ("print", "{}"),
    (
        *("photo", "{}", "--model", "lenet", "--image", "{stock}/sign.png"),
        *("--corners", "1,1;30,1;30,30;1,30", *_QUIET),
    ),
)
_CERTIFIED = (("certify", "--model", "lenet", "--quiet", "--samples", "2", "--n", "20", "--n0", "10", "--out", "{}"),)
FORMATS = (
    Format("saved", "evaluation.json", _SAVED, _SAVED_TOO),
    Format("store", "store.json", _STORE, _STORE_TOO),
    Format("store", "study.json", _STORE, _STORE_TOO),
    Format("store", "cells/*/cell.json", _STORE, _STORE_TOO),
    Format("store", "cells/*/asked.json", _STORE, _STORE_TOO),
    Format("sticker", "sticker.json", (_CHECK,), _STICKER),
    Format("certified", "certificates.json", (_CHECK,), _CERTIFIED),
    Format("certified", "*/setting.json", (_CHECK,), _CERTIFIED),
    Format("certified", "*/0*.json", (_CHECK,), _CERTIFIED),
)
_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, 2**62, 10**400, float("inf"), float("nan"), "", "text", "\0", "../../x", "x" * 70_000, [], {}, [[]], {"a": 1},
    "os:system:touch pwned",
)  # fmt: skip


def places_in(found: object, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    """Where a value stands in JSON, the root first; of a long list the first three only."""
    yield path
    if isinstance(found, dict):
        for key, value in found.items():
            yield from places_in(value, (*path, key))
    elif isinstance(found, list):
        for index, value in enumerate(found[:3]):
            yield from places_in(value, (*path, index))


def _replaced(found: Any, path: tuple[Any, ...], value: object) -> object:
    """The same JSON with one value in another's place; DELETED takes it out."""
    if not path:
        return value
    inner = found
    for step in path[:-1]:
        inner = inner[step]
    if value is _DELETED:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return found


_DELETED = object()


def _words(words: tuple[str, ...], place: Path, box: Box) -> list[object]:
    return [
        str(place) if word == "{}" else word.format(stock=box.stock) if "{stock}" in word else word for word in words
    ]


def _file(folder: Path, pattern: str, draw: random.Random) -> Path:
    return draw.choice(sorted(path for path in folder.glob(pattern) if path.is_file()))


def _case(
    kind: str, form: Format, words: tuple[str, ...], given: str, wanted: Wanted, spoil: Callable[[Path, Box], None]
) -> Case:
    def build(box: Box) -> list[object]:
        place = box.copy(form.stock)
        spoil(place, box)
        return _words(words, place, box)

    command = " ".join(words[:2]) if words[0] == "results" else words[0]
    needs = (form.stock, *(("pictures",) if words[0] == "photo" else ()))
    return Case(kind, f"{command} --({form.file})", given, wanted, build, needs=needs)


def _readers(form: Format) -> Iterator[tuple[tuple[str, ...], Wanted]]:
    for words in form.noticing:
        yield words, _NOTICED
    for words in form.others:
        yield words, _EITHER


def keys(chance: random.Random, each: int = 24) -> Iterator[Case]:
    """One value of a stored JSON file in another's place, for every reader of it; which, is drawn."""
    for form in FORMATS:
        for words, wanted in _readers(form):
            for number in range(each):
                seed = chance.random()
                value = (*_VALUES, _DELETED)[number % (len(_VALUES) + 1)]
                shown = "deleted" if value is _DELETED else repr(value)[:40]

                def spoil(
                    place: Path,
                    box: Box,
                    form: Format = form,
                    value: object = value,
                    seed: float = seed,
                    shown: str = shown,
                ) -> None:
                    draw = random.Random(seed)
                    file = _file(place, form.file, draw)
                    found = json.loads(file.read_text())
                    at = draw.choice([*places_in(found)][1 if value is _DELETED else 0 :])
                    file.write_text(json.dumps(_replaced(found, at, value)))
                    (box.at / ".given").write_text(f"{'.'.join(map(str, at)) or 'all of it'} = {shown}")

                yield _case("keys", form, words, f"a value is {shown}", wanted, spoil)


def _of_text(change: Callable[[str], str | bytes]) -> Callable[[Path, Box], None]:
    def spoil(path: Path, box: Box) -> None:
        new = change(path.read_text())
        path.write_bytes(new if isinstance(new, bytes) else new.encode())

    return spoil


def _instead(make: Callable[[Path, Box], object]) -> Callable[[Path, Box], None]:
    def spoil(path: Path, box: Box) -> None:
        path.unlink()
        make(path, box)

    return spoil


_WHOLE: dict[str, Callable[[Path, Box], None]] = {
    "nothing": _of_text(lambda _: ""),
    "half of it": _of_text(lambda text: text[: len(text) // 2]),
    "a list": _of_text(lambda text: f"[{text}]"),
    "null": _of_text(lambda _: "null"),
    "a number": _of_text(lambda _: "7"),
    "100,000 brackets": _of_text(lambda _: _DEEP),
    "100,000 objects": _of_text(lambda _: '{"a":' * 100_000 + "1" + "}" * 100_000),
    "a number of 10,000 digits": _of_text(lambda _: "9" * 10_000),
    "its first number with 10,000 digits": _of_text(lambda text: text.replace("0", "9" * 10_000, 1)),
    "not UTF-8": _of_text(lambda text: b"\xff\xfe" + text.encode()),
    "UTF-16": _of_text(lambda text: text.encode("utf-16")),
    "a byte order mark": _of_text(lambda text: b"\xef\xbb\xbf" + text.encode()),
    "every key twice": _of_text(lambda text: text.replace("{", '{"model": 1, "model": 2, "cell": 3, ', 1)),
    "zeros": _of_text(lambda text: b"\0" * len(text)),
    "a trailing comma": _of_text(lambda text: text.rstrip()[:-1] + "," + text.rstrip()[-1:]),
    "a second object": _of_text(lambda text: text + text),
    "lone surrogates": _of_text(lambda text: text.replace('"', '"\\ud800', 1)),
    "missing": _instead(lambda path, box: None),
    "a folder": _instead(lambda path, box: path.mkdir()),
    "a FIFO": _instead(lambda path, box: os.mkfifo(path)),
    "/dev/zero": _instead(lambda path, box: path.symlink_to(box.device("zero"))),
    "a link to itself": _instead(lambda path, box: path.symlink_to(path)),
    "a dangling link": _instead(lambda path, box: path.symlink_to(box.at / "nothing")),
}


def documents() -> Iterator[Case]:
    """A stored JSON file that is something else as a whole, for every reader of it."""
    for form in FORMATS:
        for words, wanted in _readers(form):
            for given, change in _WHOLE.items():

                def spoil(
                    place: Path, box: Box, form: Format = form, change: Callable[[Path, Box], None] = change
                ) -> None:
                    change(_file(place, form.file, random.Random(0)), box)

                yield _case("documents", form, words, given, wanted, spoil)


def _flip(file: Path, region: int, draw: random.Random) -> str:
    content = bytearray(file.read_bytes())
    size = len(content)
    at, bit = (
        draw.randrange(region * size // _REGIONS, max(region * size // _REGIONS + 1, (region + 1) * size // _REGIONS)),
        draw.randrange(8),
    )
    content[min(at, size - 1)] ^= 1 << bit
    file.write_bytes(content)
    return f"{file.name}: bit {bit} of byte {at:,}"


def _files(place: Path) -> list[Path]:
    return sorted(
        path for path in place.rglob("*") if path.is_file() and path.stat().st_size and ".lock" not in path.name
    )


_REGIONS = 8  # of a file: each is flipped in turn


def faults(
    chance: random.Random, stock: str, words: tuple[str, ...], hows: Sequence[str], count: int
) -> Iterator[Case]:
    """So many faults in turn over every file of a stored result and every region of its bytes: flip, lost or foreign."""
    for number in range(count):
        how, turn, seed = hows[number % len(hows)], number // len(hows), chance.random()

        def spoil(place: Path, box: Box, how: str = how, turn: int = turn, seed: float = seed) -> None:
            draw, files = random.Random(seed), _files(place)
            file, region = files[turn % len(files)], turn // len(files) % _REGIONS
            like = [other for other in files if other.suffix == file.suffix and other.read_bytes() != file.read_bytes()]
            if how == "lost":
                file.unlink()
                told = f"{file.relative_to(place)} is lost"
            elif how == "foreign" and like:
                other = draw.choice(like)
                shutil.copyfile(other, file)
                told = f"{other.relative_to(place)} in place of {file.relative_to(place)}"
            else:
                told = _flip(file, region, draw)
            (box.at / ".given").write_text(told)

        yield _case("damage", Format(stock, "any file", ()), words, f"{how}, drawn", _NOTICED, spoil)


def damage(chance: random.Random, each: int = 24) -> Iterator[Case]:
    """One flipped bit, a lost file, a file in another's place: anywhere in what is stored."""
    for stock, readers in {"store": _STORE[:2], "saved": _SAVED, "sticker": (_CHECK,), "certified": (_CHECK,)}.items():
        for words in readers:
            yield from faults(chance, stock, words, ("flip", "flip", "lost", "foreign"), each)


_CODE = ("os:system:touch pwned", "planted.py:net", "{at}/planted.py:net", "planted:net", "{at}/store/planted.py:net")
_PLANTS = {
    "saved": ("evaluation.json", ("run.model.model", "run.defense", "run.data.name", "run.model.weights")),
    "store": (
        "cells/*/cell.json",
        ("about.model settings.model", "about.data source.name", "cell.defense", "about.model settings.weights"),
    ),
    "sticker": ("sticker.json", ("facts.model", "facts.data", "facts.weights", "facts.palette")),
}


def planted() -> Iterator[Case]:
    """Code named in a stored result, in each place where a model, a defense or data is named: it must not run."""
    source = 'open("pwned", "w").close()\ndef net(*_):\n    open("pwned", "w").close()\n'
    readers = {"saved": (*_SAVED, *_SAVED_TOO), "store": (*_STORE, *_STORE_TOO), "sticker": _STICKER}
    for stock, (pattern, places) in _PLANTS.items():
        for path in places:
            for code in _CODE:
                for words in readers[stock]:

                    def spoil(
                        place: Path, box: Box, pattern: str = pattern, path: str = path, code: str = code
                    ) -> None:
                        for folder in (box.at, place):
                            (folder / "planted.py").write_text(source)
                        for file in place.glob(pattern):
                            found = json.loads(file.read_text())
                            steps = tuple(path.split("."))
                            if steps[-1] in places_of(found, steps[:-1]):
                                file.write_text(json.dumps(_replaced(found, steps, code.format(at=box.at))))

                    yield _case("planted", Format(stock, pattern, ()), words, f"{path} = {code}", _EITHER, spoil)


def places_of(found: Any, path: tuple[str, ...]) -> Any:
    """The object at a path, or an empty one."""
    for step in path:
        found = found.get(step) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}
