"""Files that a user writes: studies, recipes, class names, labels; odd as a whole and key by key."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from fuzzing.case import Answer, Box, Case, Wanted
from fuzzing.stock import NET

__all__ = ["written"]

_REFUSED, _EITHER = Wanted("refused"), Wanted("either")

_STUDY = """[study]
data = "signs"
samples = 2
eps = ["8/255"]
defenses = ["none"]
seed = 0
[[model]]
model = "lenet"
name = "a net"
[[attack]]
attack = "pgd"
steps = 1
"""
_RECIPE = """[train]
model = "lenet"
data = "{npz}"
[recipe]
epochs = 1
batch_size = 4
learning_rate = 0.1
validation = 2
"""
_BAD_VALUES = ("inf", "nan", "-1", "{}", "[]", "[[]]", "true", '""', '"nothing at all"', "1" + "0" * 20, "9" * 10_000, '"\\u0000"', "1979-05-27",
               '"os:system:touch pwned"', '"x.py:f"', "[1, true]", "{a = 1}", "1e400", "0.5", '["", ""]')  # fmt: skip
_TRUTHS = {"name", "seed"}


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines()):
        if " = " in line:
            yield number, line.partition(" = ")[0]


def _whole(text: str) -> dict[str, str | bytes]:
    return {
        "nothing": "",
        "half of it": text[: len(text) // 2 + 3],
        "100,000 brackets": "a = " + "[" * 100_000 + "]" * 100_000,
        "100,000 tables": "[" + "a." * 100_000 + "a]\n",
        "a number of 10,000 digits": text.replace("= 2", "= " + "9" * 10_000).replace("= 1", "= " + "9" * 10_000),
        "not UTF-8": b"\xff\xfe" + text.encode(),
        "UTF-16": text.encode("utf-16"),
        "a key twice": text + "\n" + text,
        "zeros": b"\0" * 100,
        "JSON": '{"study": {}}',
        "an unknown table": text + "\n[nothing]\na = 1\n",
        "an unknown key": text.replace("samples", "sample").replace("epochs", "epoch"),
        "a table where a list is": text.replace("[[", "[").replace("]]", "]"),
        "32 MB of comment": b"# comment\n" * 3_200_000 + text.encode(),
    }


def _toml() -> Iterator[tuple[str, str, tuple[str, ...], str]]:
    yield "sweep --(STUDY.toml)", "study.toml", ("sweep", "study.toml", "--quiet", "--out", "new"), _STUDY
    more = ("--held-out", "{npz}", "--out", "new.safetensors", "--quiet")
    yield "train --(RECIPE.toml)", "recipe.toml", ("train", "recipe.toml", *more), _RECIPE


def written() -> Iterator[Case]:
    """Studies and recipes, class names and labels of folders."""
    for place, name, words, text in _toml():

        def case(
            given: str,
            wanted: Wanted,
            content: Callable[[Box], str | bytes | None],
            place: str = place,
            name: str = name,
            words: tuple[str, ...] = words,
        ) -> Case:
            def build(box: Box) -> list[object]:
                found = content(box)
                if found is not None:
                    npz = str(box.stock / "data.npz")
                    box.write(name, found.replace("{npz}", npz) if isinstance(found, str) else found)
                return [word.replace("{npz}", str(box.stock / "data.npz")) for word in words]

            return Case("written", place, given, wanted, build, needs=("pictures",))

        yield case("as it should be", Wanted("result"), lambda _, text=text: text)
        for given, content in _whole(text).items():
            if (name, given) == ("recipe.toml", "nothing"):
                continue  # no recipe is the usual one, whose epochs take longer than an input may
            fine = given in ("32 MB of comment", "nothing")
            yield case(given, _EITHER if fine else _REFUSED, lambda _, content=content: content)
        for given, make in {
            "/dev/zero": lambda box, name=name: (box.at / name).symlink_to(box.device("zero")),
            "a FIFO": lambda box, name=name: os.mkfifo(box.at / name),
            "a folder": lambda box, name=name: (box.at / name).mkdir(),
            "a link to itself": lambda box, name=name: (box.at / name).symlink_to(name),
        }.items():
            yield case(given, _REFUSED, lambda box, make=make: make(box))
        for number, key in _lines(text):
            for value in _BAD_VALUES:
                changed = text.splitlines()
                changed[number] = f"{key} = {value}"
                fine = _key_is_free(key, value)
                shown = value if len(value) < 50 else f"{value[:9]} and so on"
                yield case(
                    f"{key} = {shown}", _EITHER if fine else _REFUSED, lambda _, changed=changed: "\n".join(changed)
                )
    yield from _folders()


def _key_is_free(key: str, value: str) -> bool:
    if value.startswith('"') and key in ("name",):
        return True
    fine = {
        "defenses": ('""',),
        "samples": ("1" + "0" * 20,),
        "learning_rate": ("0.5", "1" + "0" * 20),
        "name": ("0.5",),
    }
    return value in fine.get(key, ()) or (key in ("eps", "seed") and value in ("0.5", "[]", "1" + "0" * 20))


_NAMES: dict[str, str | bytes] = {
    "null": "null", "a number": "7", "a text": '"stop"', "numbers": "[1, 2]", "nested": '[["a"]]', "too few": '["00"]', "twice the same": '["00", "00"]',
    "deep": "[" * 100_000 + "]" * 100_000, "not UTF-8": b'["\xff"]', "empty": "", "half": '["00"', "index to name": '{"0": "00", "x": "01"}',
    "index 1e9": '{"1000000000": "00"}', "index of 10,000 digits": '{"' + "9" * 10_000 + '": "00"}', "NUL": '["\\u0000"]',
    "negative": '{"-1": "00"}', "lone surrogates": '["\\ud800"]',
}  # fmt: skip
_LABELS: dict[str, str | bytes] = {
    "null": "null", "a list": "[0]", "a text": '{"a.png": "zero"}', "3e7": '{"a.png": 30000000}', "2^62": '{"a.png": 4611686018427387904}',
    "10^400": '{"a.png": 1' + "0" * 400 + "}", "-1": '{"a.png": -1}', "1.5": '{"a.png": 1.5}', "true": '{"a.png": true}', "NaN": '{"a.png": NaN}',
    "outside": '{"../data.npz": 0}', "a missing file": '{"missing.png": 0}', "none": "{}", "deep": "[" * 100_000, "/dev/zero": '{"/dev/zero": 0}',
    "NUL": '{"a\\u0000.png": 0}', "over-long": '{"' + "a" * 5000 + '.png": 0}', "fine": '{"a.png": 4}',
}  # fmt: skip


def _folders() -> Iterator[Case]:
    def case(place: str, given: str, wanted: Wanted, make: Callable[[Box], object]) -> Case:
        def build(box: Box) -> list[object]:
            root = make(box)
            return ["attack", *NET, "--weights", "embedded:lenet-signs-standard", "--attack", "fgsm", "--data", root]

        return Case("written", place, given, wanted, build, needs=("pictures",))

    for given, text in _NAMES.items():

        def named(box: Box, text: str | bytes = text) -> object:
            root = box.copy("folder")
            box.write("folder/class_names.json", text)
            return root

        yield case("attack --data (class_names.json)", given, _REFUSED, named)
    for given, text in _LABELS.items():

        def flat(box: Box, text: str | bytes = text) -> object:
            box.write("flat/a.png", (box.stock / "sign.png").read_bytes())
            return box.write("flat/labels.json", text).parent

        wanted = Wanted("result", _one_example) if given == "fine" else _REFUSED
        yield case("attack --data (labels.json)", given, wanted, flat)


def _one_example(answer: Answer) -> str | None:
    return None if "1 example" in answer.out + answer.err or answer.out else "no table"
