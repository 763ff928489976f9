"""The docs say what is so: every command and every piece of Python in them runs, and generated parts are up to date."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from advkit.results.doubt import Doubt

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
_BLOCK = re.compile(r"(?:<!-- (needs|ci|shape): ?(\w+) -->\n)?```(\w+)\n(.*?)```", re.DOTALL)
_FEW = {
    "attack": ["--samples", "4", "--quiet"],
    "sweep": ["--samples", "4", "--quiet"],
    "train": ["--samples", "70", "--epochs", "1", "--quiet"],
    "train-denoiser": ["--samples", "70", "--epochs", "1", "--quiet"],
    "certify": ["--samples", "2", "--n", "100", "--quiet"],
    "check": ["--samples", "4", "--quiet"],
    "detect": ["--samples", "8", "--quiet"],
    "sticker": ["--steps", "4", "--views", "2", "--test-views", "4", "--quiet"],
    "drive": ["--draws", "1", "--quiet"],
    "photo": ["--quiet"],
    "verify": ["--quiet"],
    "show": ["--quiet"],
}
_SILENT = ("train", "init", "figure", "report", "results", "table", "print", "show")  # where they write a file
_STORES = ("first", "study", "before", "after", "all", "machine-1", "machine-2")
_CANNOT = ("advkit results show",)  # needs a key that is known once the sweep is done


class Block(NamedTuple):
    """A fenced block: the comment above it, its language and its text."""

    page: Path
    note: tuple[str, str]
    language: str
    text: str


BLOCKS = [Block(page, (m[1], m[2]), m[3], m[4]) for page in PAGES for m in _BLOCK.finditer(page.read_text("utf-8"))]


def _commands(block: Block) -> list[str]:
    lines = block.text.replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ") for line in lines if line.removeprefix("$ ").startswith("advkit ")]


COMMANDS = [
    pytest.param(command, id=f"{block.page.name}: {command}")
    for block in BLOCKS
    if block.language in ("console", "bash")
    if block.note[1] in ("sweep", "saved") or block.note[0] not in ("needs", "ci")
    for command in _commands(block)
    if not command.startswith(_CANNOT)
]
PYTHON = [
    pytest.param(b.text, id=f"{b.page.name}: {b.text.split(chr(10))[0]}") for b in BLOCKS if b.language == "python"
]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the docs speak of, small."""
    import advkit

    desk = tmp_path_factory.mktemp("desk")
    signs = advkit.load_data("signs", samples=35)
    x, y = signs.tensors()
    levels = (x.permute(0, 2, 3, 1) * 255).round().byte().numpy()
    for name in ("pictures.npz", "train.npz", "test.npz"):
        np.savez(desk / name, x=levels, y=y.numpy(), classes=np.array(signs.classes))
    for number, label in enumerate(y.tolist()):
        folder = desk / "pictures" / signs.classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(levels[number]).save(folder / f"{number}.png")
    (desk / "pictures" / "class_names.json").write_text(json.dumps(signs.classes))
    stop = signs.classes.index("stop")
    Image.fromarray(levels[y.tolist().index(stop)]).save(desk / "sign.png")
    (desk / "my_model.py").write_text(
        "import torch\n"
        "def network(classes=35):\n"
        "    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, int(classes)))\n"
    )
    shutil.copy(ROOT / "examples" / "own_defense.py", desk / "my_defense.py")
    sweep = "sweep --model resnet --model lenet --attack fgsm --attack pgd --defense none --defense jpeg:75 "
    _advkit(f"{sweep} --samples 4 --eps 2/255,4/255,8/255 --quiet --out {desk}/runs/first")
    for name in _STORES[1:]:
        shutil.copytree(desk / "runs" / "first", desk / "runs" / name)
    _advkit(f"attack --attack pgd --eps 8/255 --samples 4 --save {desk}/runs/saved --as png --quiet")
    _advkit(f"init {desk}/study.toml")
    _advkit(f"sticker --target yield {' '.join(_FEW['sticker'])} --out {desk}/stickers/stop")
    face = advkit.load_data("signs").face(stop, 240)
    photo = (face[:3] * face[3:] + 0.5 * (1 - face[3:])).permute(1, 2, 0)
    Image.fromarray((photo * 255).round().byte().numpy()).save(desk / "photo.jpg")
    return desk


def _advkit(command: str) -> int | str | None:
    from advkit.cli import main

    with pytest.raises(SystemExit) as ended:
        main(shlex.split(command))
    return ended.value.code


def test_the_docs_hold_commands_and_python():
    assert len(COMMANDS) >= 10
    assert PYTHON


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_runs(
    command: str, desk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from advkit.cli import main

    _, *words = shlex.split(command, comments=True)
    monkeypatch.chdir(desk)
    few = _FEW.get(words[0], []) if "--help" not in words else []
    few = few[2:] if "--image" in words else [] if any(word.endswith(".toml") for word in words) else few
    if words[0] == "init":
        (desk / "study.toml").unlink(missing_ok=True)
    if "parquet" in command:
        pytest.importorskip("pyarrow")
    held_out = ["--held-out", "test.npz"] if words[0] == "train" and not {"--help", "--held-out"} & set(words) else []
    with pytest.raises(SystemExit) as ended:
        main([*words, *few, *held_out])
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    assert printed.out or words[0] in _SILENT


@pytest.mark.parametrize("text", PYTHON)
def test_every_piece_of_python_runs(text: str, desk: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(desk)
    exec(text, {"__name__": "docs"})


def test_the_generated_parts_are_what_the_commands_print():
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "docs.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_docs_have_the_help_of_every_command():
    from advkit.cli import _COMMANDS

    text = (ROOT / "docs" / "cli.md").read_text("utf-8")
    assert not [name for name in _COMMANDS if f"<!-- generated by: advkit {name} --help -->" not in text]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    assert not [link for link in links if not (page.parent / link).exists()]


def _fits(value: object, shape: object) -> bool:
    """Whether a JSON value has the shape that the docs state."""
    if isinstance(shape, dict):
        return isinstance(value, dict) and list(value) == list(shape) and all(_fits(value[k], shape[k]) for k in shape)
    if isinstance(shape, list):
        return isinstance(value, list) and bool(value) and all(_fits(item, shape[0]) for item in value)
    kinds = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None)}
    return any(isinstance(value, kinds[kind]) for kind in str(shape).split(" or "))


def test_the_json_has_the_shape_that_the_docs_state(desk: Path, capsys: pytest.CaptureFixture[str]):
    from advkit.cli import main

    stated = next(json.loads(b.text) for b in BLOCKS if b.note == ("shape", "attack"))
    with pytest.raises(SystemExit):
        main(
            ["attack", "--samples", "4", "--attack", "fgsm", "--eps", "1/255,8/255", "--format", "json", "--per-class"]
        )
    found = json.loads(capsys.readouterr().out)
    found["doubts"] += [Doubt("P1", "", "").to_json()]  # the model is an honest one, and raises none
    assert _fits(found, stated), found


def test_the_json_of_a_sweep_has_the_shape_that_the_docs_state(desk: Path, capsys: pytest.CaptureFixture[str]):
    stated = next(json.loads(b.text) for b in BLOCKS if b.note == ("shape", "sweep"))
    capsys.readouterr()
    assert _advkit(f"table {desk}/runs/first --format json") == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == list(stated)
    found["doubts"] += [Doubt("P1", "", "").to_json()]  # the models are honest ones, and raise none
    assert _fits(found.pop("doubts"), stated["doubts"])
    assert _fits(found.pop("not_covered"), stated["not_covered"])
    assert all(_fits(lines, stated["cells"]) for lines in found.values())


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_every_example_runs(example: Path, tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-W", "error", str(example)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_every_example_is_spoken_of():
    readme = (ROOT / "README.md").read_text("utf-8")
    assert not [path.name for path in (ROOT / "examples").glob("*.py") if f"(examples/{path.name})" not in readme]


def test_shells_can_complete_commands_and_options():
    asked = {"_ADVKIT_COMPLETE": "bash_complete", "COMP_WORDS": "advkit attack --restar", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-m", "advkit"], env={**os.environ, **asked}, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["plain,--restarts"], done.stderr
