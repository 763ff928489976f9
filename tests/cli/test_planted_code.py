"""Nothing that a file holds or names runs: files are planted for every reader, and none may make the mark."""

from __future__ import annotations

import json
import pickle
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Run
from PIL import Image
from safetensors.torch import save_file

from advkit.cli import main
from advkit.engine import candidate
from advkit.scene.sticker import Sticker
from advkit.seal import sealed_json

HARMLESS = """
import torch
from torch import nn


def net():
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 6))


class Dim(nn.Module):
    def forward(self, x):
        return 0.9 * x
"""
PLANTED = "import pathlib\npathlib.Path({mark!r}).touch()\n"


def command(*words: object) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    assert ended.value.code == 0, words


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved run and a store of somebody's own model and defense, whose file is then another; and a sticker."""
    home = tmp_path_factory.mktemp("planted")
    (home / "own.py").write_text(HARMLESS)
    pictures = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    np.savez(home / "own.npz", x=pictures, y=np.arange(6))
    own = ("--model", f"{home}/own.py:net", "--defense", f"{home}/own.py:Dim", "--data", home / "own.npz")
    attack = ("--attack", "fgsm", "--eps", "8/255", "--quiet")
    command("attack", *own, *attack, "--save", home / "run")
    command("sweep", *own, *attack, "--out", home / "store")
    rgba = torch.zeros(4, 64, 64)
    rgba[3, 14:21, 12:52] = 1
    Sticker(rgba, 600.0, {"class": "stop", "target": "yield", "data": "signs"}).save(home / "sticker")
    command("print", home / "sticker", "--quiet")
    Image.fromarray(pictures[0]).resize((400, 400)).save(home / "photo.png")
    return home


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copies of them in a folder of planted code, which is the current one: in itself, as a module, and in each copy."""
    for name in ("run", "store", "sticker"):
        shutil.copytree(made / name, tmp_path / name)
    planted = PLANTED.format(mark=str(tmp_path / "PWNED"))
    for folder in (tmp_path, tmp_path / "run", tmp_path / "store", tmp_path / "sticker"):
        (folder / "evil.py").write_text(planted)
    (made / "own.py").write_text(planted + HARMLESS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def edited(path: Path, change: Callable[[Any], object]) -> None:
    """A JSON file with something changed, and a checksum that fits: whoever plants a file can make one."""
    found = json.loads(path.read_text())
    change(found)
    path.write_bytes(sealed_json({key: value for key, value in found.items() if key not in ("sealed", "sha256")}))


def put(*where: str | int, value: object) -> Callable[[Any], object]:
    def change(found: Any) -> None:
        for key in where[:-1]:
            found = found[key]
        found[where[-1]] = value

    return change


def spoken(place: Path, text: str) -> str:
    return text.replace("HERE", str(place))


SPECS = (
    "os:system:touch HERE/PWNED",
    "evil.py:make",
    "HERE/evil.py:make",
    "HERE/run/evil.py:make:3",
    "evil:make",
    "subprocess:getoutput:touch HERE/PWNED",
    "pathlib:Path.touch:HERE/PWNED",
    "evil.py",
    "hf:nobody/nothing:net.safetensors",
)
DEFENSES = ("evil.py:make", "HERE/evil.py:make", "os.path:system", "jpeg:75+evil.py:make", "evil.sub:make")


@pytest.mark.parametrize("spec", SPECS)
def test_a_model_that_a_saved_run_names_is_not_imported(run: Run, place: Path, spec: str) -> None:
    edited(place / "run" / "evaluation.json", put("run", "model", "model", value=spoken(place, spec)))
    edited(place / "run" / "evaluation.json", put("run", "defense", value="none"))
    for words in (("verify", "run"), ("show", "run", "--only", "grid")):
        answer = run(*words, "--quiet")
        assert answer.code == 2, answer
        assert "--trust-code" in answer.err
    assert not (place / "PWNED").exists()


@pytest.mark.parametrize("spec", DEFENSES)
def test_a_defense_that_a_saved_run_names_is_not_imported(run: Run, place: Path, spec: str) -> None:
    edited(place / "run" / "evaluation.json", put("run", "model", "model", value="lenet"))
    edited(place / "run" / "evaluation.json", put("run", "defense", value=spoken(place, spec)))
    for words in (("verify", "run"), ("show", "run", "--only", "grid")):
        assert run(*words, "--quiet").code == 2
        assert run(*words, "--quiet", "--model", "lenet").code == 2
    assert not (place / "PWNED").exists()


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("run", "data", "name"), "evil.py"),
        (("run", "data", "name"), "objects.npz"),
        (("run", "model", "weights"), "pickle.pt"),
        (("run", "model", "weights"), "evil.py:make"),
        (("run", "model", "made"), "evil.py:make"),
        (("run", "model", "trust"), ["evil.py:make"]),
        (("run", "model", "settings"), {"trust": None, "factory": "evil.py:make"}),
        (("run", "search", "attacks"), ["evil.py:make"]),
        (("run", "search", "settings"), ["loss=evil.py:make"]),
        (("run", "command"), ["attack", "--model", "evil.py:make"]),
    ],
)
def test_nothing_else_that_a_saved_run_names_runs(
    run: Run, place: Path, made: Path, where: tuple[str, ...], value: object
) -> None:
    planted_files(place)
    edited(place / "run" / "evaluation.json", put("run", "model", "model", value="lenet"))
    edited(place / "run" / "evaluation.json", put("run", "defense", value="none"))
    edited(place / "run" / "evaluation.json", put(*where, value=value))
    for words in (("verify", "run"), ("show", "run"), ("verify", "run", "--model", f"{made}/nothing.py:net")):
        run(*words, "--quiet")
    assert not (place / "PWNED").exists()


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path(self.path),)


def planted_files(place: Path) -> None:
    """Weights and pictures that are pickles."""
    harm = Touch(place / "PWNED")
    torch.save({"state_dict": harm}, place / "pickle.pt")
    (place / "raw.pth").write_bytes(pickle.dumps(harm))
    (place / "lie.safetensors").write_bytes(pickle.dumps(harm))
    np.savez(place / "objects.npz", x=np.array([harm], dtype=object), y=np.array([0]))


@pytest.mark.parametrize("file", ["pickle.pt", "raw.pth", "lie.safetensors"])
def test_weights_and_pictures_are_not_unpickled(run: Run, place: Path, file: str) -> None:
    planted_files(place)
    assert run("attack", "--model", "lenet", "--weights", file, "--quiet").code == 2
    assert run("attack", "--model", "lenet", "--data", "objects.npz", "--quiet").code == 2
    assert run("attack", "--model", file, "--quiet").code == 2
    assert run("attack", "--attack", "patch", "--set", f"fitted_on={file}", "--quiet").code == 2
    assert run("attack", "--defense", f"dncnn:{file}", "--quiet").code == 2
    assert not (place / "PWNED").exists()


@pytest.mark.parametrize("key", ["backbone", "settings", "classes", "mean", "denoiser", "advkit", "advkit fitted"])
def test_what_weights_say_of_themselves_names_no_code(run: Run, place: Path, key: str) -> None:
    value = '"evil.py:make"' if key in ("classes", "mean") else "evil.py:make"
    for text in (value, json.dumps({"attack": "evil.py:make", "settings": {"threat": ["linf", 0.1]}, "restarts": 1})):
        facts = {"backbone": "lenet", "classes": '["a", "b"]', key: text}
        save_file({"thing": torch.zeros(1, 3, 8, 8)}, "planted.safetensors", metadata=facts)
        run("attack", "--model", "planted.safetensors", "--quiet")
        run("attack", "--weights", "planted.safetensors", "--quiet")
        run("attack", "--attack", "patch", "--set", "fitted_on=planted.safetensors", "--quiet")
        run("attack", "--defense", "dncnn:planted.safetensors", "--samples", 1, "--quiet")
        shutil.rmtree("out.training", ignore_errors=True)
        Path("out.training").mkdir()
        shutil.copy("planted.safetensors", "out.training/checkpoint.safetensors")
        run("train", "--model", "lenet", "--samples", 4, "--epochs", 1, "--out", "out.safetensors", "--quiet")
    assert not (place / "PWNED").exists()


@pytest.mark.parametrize("key", ["model settings", "surrogate settings"])
@pytest.mark.parametrize("spec", SPECS)
def test_a_model_that_a_store_names_is_not_imported(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch, spec: str, key: str
) -> None:
    about = candidate._about

    def planted(*known: Any) -> dict[str, Any]:
        found = about(*known)
        return {**found, key: {**found["model settings"], "model": spoken(place, spec)}}

    shutil.rmtree("store")
    with monkeypatch.context() as writing:  # a store of which every checksum is right
        writing.setattr(candidate, "_about", planted)
        words = ("--model", "lenet", "--attack", "fgsm", "--eps", "8/255", "--samples", 2, "--quiet")
        assert run("sweep", *words, "--out", "store").code == 0
    assert not (place / "PWNED").exists()
    answer = run("verify", "store", "--quiet")
    assert key != "model settings" or "--trust-code" in answer.out + answer.err, answer
    for others in (("table",), ("report",), ("results", "check"), ("results", "list"), ("figure",)):
        run(*others, "store", *(("--out", "here.html") if others == ("report",) else ()), "--quiet")
    assert not (place / "PWNED").exists()


def test_a_store_of_ones_own_code_is_verified_with_the_callers_word_alone(run: Run, place: Path, made: Path) -> None:
    answer = run("verify", "store", "--quiet")
    assert "--trust-code" in answer.out + answer.err
    assert not (place / "PWNED").exists()
    trust = ("--trust-code", f"{made}/own.py:net", "--trust-code", f"{made}/own.py:Dim")
    answer = run("verify", "store", "--quiet", *trust)
    assert "SHA-256" in answer.err
    assert "is not asked" not in answer.out


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec != "evil.py"])
def test_a_model_that_a_sticker_names_is_not_imported(run: Run, place: Path, made: Path, spec: str) -> None:
    edited(place / "sticker" / "sticker.json", lambda found: _facts(found).update(model=spoken(place, spec)))
    for words in (
        ("drive", "sticker", "--poses", "12@0", "--draws", 1),
        ("photo", "sticker", "--image", made / "photo.png", "--corners", "50,50;350,60;340,350;45,340"),
    ):
        answer = run(*words, "--quiet")
        assert answer.code == 2, answer
        assert "--trust-code" in answer.err
    run("print", "sticker", "--quiet")
    assert not (place / "PWNED").exists()


def _facts(found: dict[str, Any]) -> dict[str, Any]:
    return found.get("facts", found)


@pytest.mark.parametrize("spec", ["evil.py:make", "HERE/evil.py:make", "os:system:touch HERE/PWNED", "evil:make"])
@pytest.mark.parametrize("kind", ["model", "defense", "surrogate"])
def test_a_study_names_code_only_with_the_callers_word(run: Run, place: Path, kind: str, spec: str) -> None:
    spec = spoken(place, spec)
    model = spec if kind == "model" else "lenet"
    lines = ["[study]", 'eps = "8/255"', "samples = 2"]
    lines += [f"defenses = {json.dumps([spec])}"] if kind == "defense" else []
    lines += ["[[model]]", f"model = {json.dumps(model)}", "[[attack]]", 'attack = "fgsm"']
    lines += ["[[surrogate]]", f"model = {json.dumps(spec)}"] if kind == "surrogate" else []
    Path("study.toml").write_text("\n".join(lines))
    answer = run("sweep", "study.toml", "--quiet", "--dry-run")
    assert answer.code == 2, answer
    assert not (place / "PWNED").exists()


@pytest.mark.parametrize("spec", ["evil.py:make", "HERE/evil.py:make", "os:system:touch HERE/PWNED"])
def test_a_recipe_names_code_only_with_the_callers_word(run: Run, place: Path, spec: str) -> None:
    text = json.dumps(spoken(place, spec))
    for lines in (f"model = {text}", f"defense = {text}", f"data = {text}", f"weights = {text}", f"held_out = {text}"):
        Path("recipe.toml").write_text(f"[train]\nsamples = 4\n{lines}\n[recipe]\nepochs = 1\n")
        assert run("train", "recipe.toml", "--out", "out.safetensors", "--quiet").code == 2, lines
    assert not (place / "PWNED").exists()


@pytest.mark.parametrize("name", ["class_names.json", "labels.json"])
def test_names_of_classes_are_texts(run: Run, place: Path, made: Path, name: str) -> None:
    for label in ("a", "b"):
        (place / "pictures" / label).mkdir(parents=True)
        shutil.copy(made / "photo.png", place / "pictures" / label)
    for held in (["evil.py:make", "os:system"], {"0": "evil.py:make", "a/photo.png": "evil.py:make"}, "evil.py:make"):
        (place / "pictures" / name).write_text(json.dumps(held))
        run("attack", "--model", "lenet", "--data", "pictures", "--size", 32, "--quiet")
    assert not (place / "PWNED").exists()


def test_certificates_and_what_lies_beside_results_name_no_code(run: Run, place: Path) -> None:
    certify = ("certify", "--samples", 2, "--n", 20, "--n0", 5, "--out", "proofs", "--quiet")
    assert run(*certify).code == 0
    for path in sorted(Path("proofs").rglob("*.json")):
        path.write_text(path.read_text().replace('"none"', '"evil.py:make"').replace("resnet20", "evil.py:make"))
    run(*certify)
    for file in sorted(Path("store").rglob("*.json")):
        if file.name != "cell.json":
            file.write_text(json.dumps({"model": "evil.py:make", "advkit store": 1}))
    for words in (("verify",), ("table",), ("results", "check")):
        run(*words, "store", "--quiet")
    assert not (place / "PWNED").exists()


def test_a_torchscript_archive_that_a_saved_run_names_is_looked_through(run: Run, place: Path) -> None:
    class Saves(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch.ops.aten.save(x, "PWNED")
            return x.flatten(1)[:, :6]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Saves()).save("net.pt")
    edited(place / "run" / "evaluation.json", put("run", "model", "model", value=str(place / "net.pt")))
    edited(place / "run" / "evaluation.json", put("run", "defense", value="none"))
    assert run("verify", "run", "--quiet").code == 2
    assert run("attack", "--model", "net.pt", "--data", "signs", "--samples", 1, "--quiet").code == 2
    assert not (place / "PWNED").exists()


def test_with_the_callers_word_the_same_code_runs_and_its_hash_is_shown(run: Run, place: Path, made: Path) -> None:
    trust = ("--trust-code", f"{made}/own.py:net", "--trust-code", f"{made}/own.py:Dim")
    answer = run("verify", "run", "--quiet", *trust[:2])
    assert answer.code == 2, "the defense is not trusted by the model's name"
    assert not (place / "PWNED").exists()
    answer = run("verify", "run", "--quiet", *trust)
    assert answer.code == 0, answer
    assert answer.err.count("SHA-256") == 2
    assert (place / "PWNED").exists(), "what was planted does leave its mark where it runs"


def test_a_code_file_compiled_by_somebody_else_is_not_what_runs(place: Path, run: Run) -> None:
    import importlib._bootstrap_external as external
    import os

    (place / "lie.py").write_text(HARMLESS)
    about = os.stat(place / "lie.py")
    planted = compile(PLANTED.format(mark=str(place / "PWNED")) + HARMLESS, "lie.py", "exec")
    cached = Path(external.cache_from_source(str(place / "lie.py")))
    cached.parent.mkdir(exist_ok=True)
    cached.write_bytes(external._code_to_timestamp_pyc(planted, int(about.st_mtime), about.st_size))
    words = ("attack", "--model", "lie.py:net", "--attack", "fgsm", "--samples", 2, "--quiet")
    np.savez(place / "own.npz", x=np.zeros((2, 32, 32, 3), np.uint8), y=np.arange(2))
    assert run(*words, "--data", "own.npz").code == 0
    assert not (place / "PWNED").exists()
