"""What decides the numbers names the cells; what is worth knowing stands beside them."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import linear
from torch import nn

from advkit.data import TensorData
from advkit.engine import provenance
from advkit.engine.provenance import check_code, circumstances, code_version, own_source, parts_of, worked_here
from advkit.engine.specs import AttackSpec, DataSpec, ModelSpec
from advkit.engine.sweep import Sweep, make_plan, run_plan
from advkit.errors import InputError
from advkit.results.store import Store

DECIDES_NOTHING = {
    "advkit.engine.asking": "questions beside the numbers",
    "advkit.engine.call": "attacks called without a sweep",
    "advkit.engine.checks": "refuses input",
    "advkit.engine.doubts": "remarks beside the numbers",
    "advkit.engine.fits": "files of what is fitted",
    "advkit.engine.memory": "speed",
    "advkit.engine.protocol": "questions beside the numbers",
    "advkit.engine.provenance": "names code",
    "advkit.engine.repeats": "evaluations that are no sweep",
    "advkit.engine.specs": "its values are in the attack's repr and the hashes",
    "advkit.engine.stages": "evaluations that are no sweep",
    "advkit.engine.tasks": "carries the others",
}


def imported(name: str) -> set[str]:
    """The modules of advkit.engine that a module of it imports."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text())
    found = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    return {module for module in found if module.startswith("advkit.engine.")}


def test_every_module_that_a_task_reaches_names_cells_or_decides_nothing() -> None:
    """A change in one that is missing would let old shards pass for new ones."""
    seen, waiting = set[str](), ["advkit.engine.tasks"]
    while waiting:
        name = waiting.pop()
        family = ".".join(name.split(".")[:3])
        if name in seen or (family in DECIDES_NOTHING and name != "advkit.engine.tasks"):
            continue
        seen.add(name)
        waiting += imported(name)
    seen.discard("advkit.engine.tasks")
    assert seen <= set(provenance._DECIDE), f"{sorted(seen - set(provenance._DECIDE))} decide numbers, and name no cell"
    assert not set(provenance._DECIDE) & set(DECIDES_NOTHING)


def written(folder: Path, name: str, body: str) -> type[nn.Module]:
    path = folder / f"{name}.py"
    path.write_text(f"from torch import nn\n\nclass Net(nn.Sequential):\n    {body}\n")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Net  # type: ignore[no-any-return]


def test_the_code_of_a_users_class_counts_and_its_comments_do_not(tmp_path: Path) -> None:
    one, two, three = (
        written(tmp_path, f"net_{place}", body)
        for place, body in enumerate(('"""A net."""', '"""Another text."""  # and a remark', "a = 1"))
    )
    assert code_version([one]) == code_version([two]) != code_version([three])
    assert code_version([one, three]) == code_version([three, one])
    assert code_version([one]) != code_version()


def test_what_was_made_at_a_prompt_or_by_torch_has_no_file_that_counts() -> None:
    made = type("Made", (nn.Module,), {"__module__": "__nowhere__"})
    assert code_version([made, nn.Linear, TensorData]) == code_version()
    assert parts_of(linear()) == {nn.Sequential, nn.Flatten, nn.Linear}


def test_a_worker_with_other_code_is_refused_and_one_with_other_comments_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw, exact = own_source().split()
    check_code(f"{raw} other")
    check_code(f"other {exact}")
    with pytest.raises(InputError, match=r"runs another advkit than the sweep .*install the same everywhere"):
        check_code("other other")


def test_a_task_of_other_code_is_not_done(tmp_path: Path) -> None:
    from advkit.engine.tasks import perform

    plan = make_plan(small())
    store = Store(tmp_path).create()
    store.add(*(planned.record for planned in plan.cells))
    task = replace(plan.left(store)[0], source="other other")
    report = perform(task)
    assert report.expected
    assert "runs another advkit" in str(report.error)
    assert not store.spans(task.cell)


def small() -> Sweep:
    x = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    net = linear(3, dtype=torch.float32)
    data = TensorData(x, net(x).argmax(1), name="drawn")
    return Sweep((ModelSpec("tiny", made=net),), (AttackSpec("fgsm"),), ("0.01",), DataSpec("drawn", made=data))


def test_each_shard_says_where_it_was_made(tmp_path: Path) -> None:
    plan = make_plan(small())
    run_plan(plan, tmp_path)
    for planned in plan.cells:
        (told,) = Store(tmp_path).made(planned.cell)
        assert told == worked_here("cpu")
        assert told["threads"] == str(torch.get_num_threads())
        assert {"processor", "torch", "advkit", "git", "vector units"} <= told.keys()


def test_the_packages_that_decide_numbers_are_recorded() -> None:
    """Codecs and optimisers of other packages are part of some defenses and attacks."""
    found = circumstances()
    for package in ("numpy", "scipy", "pillow", "safetensors", "torch"):
        assert found[package]
    for package in ("foolbox", "torchattacks"):
        assert (package in found) == (importlib.util.find_spec(package) is not None)


def test_a_checkout_with_changed_files_says_so(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    assert provenance._git(tmp_path) == ""
    git("init", "-q")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-qm", "one")
    clean = provenance._git(tmp_path)
    assert len(clean) == 12
    (tmp_path / "file").write_text("2")
    assert provenance._git(tmp_path) == f"{clean}, changed"
