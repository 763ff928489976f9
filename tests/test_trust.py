"""Who reads what a file holds, and who turns a text into code: every place in the source is on a reviewed list here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from advkit.errors import InputError, Untrusted
from advkit.trust import NOTHING, Trust, check_code, digest

ROOT = Path(__file__).parents[1]
READERS = {"read_json", "parse_json", "read_toml", "parse_toml", "read_sealed"}
DOORS = {
    "__import__", "cloudpickle.loads", "compile", "eval", "exec", "exec_module", "import_module", "importlib.import_module",
    "joblib.load", "json.load", "json.loads", "load_model", "made_by_code", "marshal.loads", "np.load", "numpy.load",
    "onnx2torch.convert", "own_wrapper", "pickle.load", "pickle.loads", "ray.cloudpickle.loads", "read_defense",
    "run_module", "run_path", "spec_from_file_location", "importlib.util.spec_from_file_location",
    "described.loader.exec_module", "json.JSONDecoder",
    "tomllib.load", "tomllib.loads", "torch.hub.load", "torch.jit.load", "torch.load", "unpickle", "usercode.from_code",
    "usercode.from_torchscript", "point.load", "yaml.load", "yaml.safe_load", "Trust", "Trust.of", "trusted",
}  # fmt: skip


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call in a file, with what is called as it is written."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield ast.unparse(node.func), node


FILES = sorted(path for folder in ("advkit", "attacks", "defenses") for path in (ROOT / folder).rglob("*.py"))
CALLS = [(path.relative_to(ROOT).as_posix(), name, node) for path in FILES for name, node in calls(path)]

REVIEWED_READERS = {
    "advkit/backbones/checkpoint.py": "headers of weights: the backbone is a name of the registry",
    "advkit/backbones/classifier.py": "numbers",
    "advkit/backbones/weights.py": "settings that a Classifier has already",
    "advkit/data/_names.py": "names of classes",
    "advkit/engine/fitting.py": "attacks and losses are names of registries",
    "advkit/engine/study.py": "models and defenses: admit and read_defense, with the caller's trust",
    "advkit/engine/training/checkpoint.py": "numbers, compared with those of the training that is asked for",
    "advkit/engine/training/file.py": "models: the ModelChoice of the command, whose trust is what was typed",
    "advkit/engine/training/loop.py": "its own, once there and back",
    "advkit/results/certificate_store.py": "compared, not used",
    "advkit/results/check.py": "compared, not used",
    "advkit/results/check_store.py": "compared, not used",
    "advkit/results/facts.py": "a saved run: engine/recipe.py, which trusts nothing by itself",
    "advkit/results/manifest.py": "checksums",
    "advkit/results/print_sheet.py": "numbers",
    "advkit/results/run_folder.py": "names of files, compared with those that are there",
    "advkit/results/sealed.py": "passes it on",
    "advkit/results/shard.py": "numbers, and what is shown",
    "advkit/results/store.py": "cells: engine/verify_store.py, which trusts nothing by itself",
    "advkit/results/verify.py": "its own, once there and back",
    "advkit/scene/sticker.py": "the model: the ModelChoice of the command, whose trust is what was typed",
}
"""A file that parses JSON or TOML which came from outside, and what becomes of the names in it."""

_OWN = "the caller's own word: an argument of a function, or typed on the command line"
_TRUSTED = "with the trust that it was given"
REVIEWED_DOORS = {
    ("advkit/__init__.py", "import_module"): "advkit's own modules, by a table",
    ("advkit/backbones/checkpoint.py", "torch.load"): "weights_only",
    ("advkit/backbones/load.py", "Trust"): "nothing: a module was given",
    ("advkit/backbones/load.py", "Trust.of"): _OWN,
    ("advkit/backbones/load.py", "usercode.from_code"): _TRUSTED,
    ("advkit/backbones/load.py", "usercode.from_torchscript"): _TRUSTED,
    ("advkit/backbones/usercode.py", "described.loader.exec_module"): "in made_by_code, after the trust was asked",
    ("advkit/backbones/usercode.py", "importlib.import_module"): "the same",
    ("advkit/backbones/usercode.py", "importlib.util.spec_from_file_location"): "the same",
    ("advkit/backbones/usercode.py", "made_by_code"): _TRUSTED,
    ("advkit/backbones/onnx_file.py", "onnx2torch.convert"): "a graph of known operators, rebuilt from torch's layers",
    ("advkit/backbones/usercode.py", "torch.jit.load"): "what checked_archive made, or what --trust-code names",
    ("advkit/cli/__init__.py", "importlib.import_module"): "advkit's own commands",
    ("advkit/cli/_shared.py", "Trust.of"): _OWN,
    ("advkit/cli/_shared.py", "trusted"): _OWN,
    ("advkit/cli/_wanted.py", "Trust.of"): _OWN,
    ("advkit/cli/_wanted.py", "read_defense"): _TRUSTED,
    ("advkit/cli/attack.py", "Trust.of"): _OWN,
    ("advkit/cli/attack.py", "read_defense"): _TRUSTED,
    ("advkit/cli/certify.py", "Trust.of"): _OWN,
    ("advkit/cli/certify.py", "read_defense"): _TRUSTED,
    ("advkit/cli/check.py", "Trust.of"): _OWN,
    ("advkit/cli/check.py", "read_defense"): _TRUSTED,
    ("advkit/cli/detect.py", "Trust.of"): _OWN,
    ("advkit/cli/detect.py", "read_defense"): _TRUSTED,
    ("advkit/cli/init.py", "Trust.of"): _OWN,
    ("advkit/cli/show.py", "trusted"): _OWN,
    ("advkit/cli/verify.py", "trusted"): _OWN,
    ("advkit/documents.py", "json.JSONDecoder"): "the one reader",
    ("advkit/documents.py", "tomllib.loads"): "the one reader",
    ("advkit/engine/certify.py", "Trust.of"): _OWN,
    ("advkit/engine/certify.py", "read_defense"): _TRUSTED,
    ("advkit/engine/defend.py", "Trust.of"): _OWN,
    ("advkit/engine/defend.py", "own_wrapper"): _TRUSTED,
    ("advkit/engine/defend.py", "read_defense"): _TRUSTED,
    ("advkit/engine/evaluate.py", "Trust.of"): _OWN,
    ("advkit/engine/evaluate.py", "load_model"): _OWN,
    ("advkit/engine/evaluate.py", "read_defense"): _TRUSTED,
    ("advkit/engine/own.py", "made_by_code"): _TRUSTED,
    ("advkit/engine/plan.py", "read_defense"): _TRUSTED,
    ("advkit/engine/provenance.py", "importlib.import_module"): "modules of classes that are there already",
    ("advkit/engine/recipe.py", "read_defense"): _TRUSTED,
    ("advkit/engine/specs.py", "Trust.of"): _OWN,
    ("advkit/engine/specs.py", "load_model"): _TRUSTED,
    ("advkit/engine/study.py", "read_defense"): _TRUSTED,
    ("advkit/engine/sweep.py", "Trust.of"): _OWN,
    ("advkit/engine/tasks.py", "read_defense"): _TRUSTED,
    ("advkit/engine/verify.py", "Trust.of"): _OWN,
    ("advkit/engine/verify_store.py", "read_defense"): _TRUSTED,
    ("advkit/executors/processes.py", "pickle.loads"): "from the sweep itself, through a pipe",
    ("advkit/executors/ray.py", "ray.cloudpickle.loads"): "from the sweep itself, through Ray",
    ("advkit/registry.py", "importlib.import_module"): "advkit's own packages and bridges",
    ("advkit/registry.py", "point.load"): "packages that are installed",
    ("advkit/results/export.py", "importlib.import_module"): "pandas and pyarrow",
    ("advkit/trust.py", "Trust"): "nothing, and the sum of two",
    ("attacks/_bridge_art.py", "import_module"): "ART's own modules",
    ("attacks/_bridge_foolbox.py", "import_module"): "Foolbox's own modules",
}
"""A place where a text, or a file, may become code: and why it may not without the caller's word."""

MODULES = {
    ("advkit/backbones/checkpoint.py", "pickle"),  # for the name of an error
    ("advkit/backbones/torchscript.py", "pickletools"),  # which reads, and runs nothing
    ("advkit/documents.py", "tomllib"),
    ("advkit/executors/processes.py", "pickle"),
}
"""Who imports a module that turns bytes into objects."""


def test_modules_that_make_objects_of_bytes_are_imported_where_that_is_reviewed() -> None:
    makers = {
        "pickle",
        "pickletools",
        "marshal",
        "shelve",
        "dill",
        "cloudpickle",
        "joblib",
        "tomllib",
        "yaml",
        "runpy",
        "code",
    }
    found = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {(path.relative_to(ROOT).as_posix(), name) for name in names if name in makers}
            assert not (isinstance(node, ast.ImportFrom) and node.module == "json"), f"{path}: import json whole"
    assert found == MODULES


def test_every_reader_of_json_and_toml_is_reviewed() -> None:
    found = {file for file, name, _ in CALLS if name.rpartition(".")[2] in READERS} - {"advkit/documents.py"}
    assert found == set(REVIEWED_READERS), "read tests/test_trust.py: what may the names in the document bring to run?"


def test_every_place_where_a_text_may_become_code_is_reviewed() -> None:
    found = {(file, name) for file, name, _ in CALLS if name in DOORS}
    assert found == set(REVIEWED_DOORS), "read tests/test_trust.py: who says that the text is the caller's own?"


def test_nothing_is_unpickled_but_what_the_sweep_itself_sends() -> None:
    for file, name, node in CALLS:
        keywords = {each.arg: ast.unparse(each.value) for each in node.keywords}
        if name == "torch.load":
            assert keywords.get("weights_only") == "True", file
        if name in ("np.load", "numpy.load"):
            assert keywords.get("allow_pickle") == "False", file
        if name in ("load_model", "read_defense") and file not in (
            "advkit/engine/evaluate.py",
            "advkit/engine/certify.py",
        ):
            told = len(node.args) > 1 or "trust" in keywords or all(isinstance(arg, ast.Constant) for arg in node.args)
            assert told, f"{file}: {name} is not told what the caller wrote himself"


# ------------------------------------------------------------------ the decision


def test_nothing_is_trusted_by_itself() -> None:
    for text in ("os:system", "net.py:f", "/x/net.py:f:3", "a.b:c", "hf:a/b:c.safetensors", "nul\0.py:f"):
        with pytest.raises(Untrusted, match="--trust-code"):
            NOTHING.check(text)


def test_what_the_caller_wrote_is_the_same_file_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "net.py").touch()
    monkeypatch.chdir(tmp_path / "here")
    trust = Trust.of("../net.py:f", code=("a.b:c",))
    for text in (f"{tmp_path}/net.py:f", "../here/../net.py:f", "a.b:c"):
        trust.check(text)
    for text in ("net.py:f", "../net.py:g", "../net.py:f:1", f"{tmp_path}/here/net.py:f", "a.b:d", "a.b:c:1"):
        with pytest.raises(Untrusted):
            trust.check(text)


def test_what_is_trusted_is_found_from_where_the_caller_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    trust = Trust.of("net.py:f")
    monkeypatch.chdir(tmp_path / "other")
    trust.check(f"{tmp_path}/net.py:f")
    with pytest.raises(Untrusted):
        trust.check("net.py:f")


def test_each_part_of_a_chain_is_the_callers_own() -> None:
    Trust.of("jpeg:75+mine.py:D").check("mine.py:D")


def test_the_refusal_says_what_to_add_and_steers_no_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Untrusted) as caught:
        NOTHING.check(f"{tmp_path}/my net.py:f")
    assert "--trust-code 'my net.py:f'" in str(caught.value)
    with pytest.raises(Untrusted) as caught:
        NOTHING.check("os:system:\x1b[2Jtouch\n")
    assert str(caught.value).isprintable()


def test_a_digest_imports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pack").mkdir()
    for file in ("pack/__init__.py", "pack/inner.py", "net.py"):
        (tmp_path / file).write_text("raise SystemExit('imported')\n")
    assert len({digest("net.py:f"), digest("pack.inner:f")}) == 1
    assert len(digest("net.py:f")) == 64
    assert digest("none.py:f") == digest("no.such:f") == ""


@pytest.mark.parametrize(
    "text", ["", ":", "1e400", "none+jpeg", "no such.module:f", "%s%n", "own.py", "own.py:", "a\0b", "x" * 5000]
)
def test_a_text_that_can_name_no_code_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="names no code"):
        check_code(text, "--trust-code")


def test_what_of_the_code_was_needed_is_known_of_every_sum() -> None:
    code = Trust.of(code=("a.py:f", "b.py:f"))
    (code | Trust.of("lenet")).check("a.py:f")
    with pytest.raises(Untrusted):
        code.check("c.py:f")
    assert [text for text in ("a.py:f", "b.py:f") if code.idle(text)] == ["b.py:f"]
