"""``advkit verify``: what was saved holds; whatever is changed afterwards is named, with the file, the example and the fact."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Run
from PIL import Image
from safetensors.torch import load_file, save_file
from stores import rewritten, small

from advkit.cli import main
from advkit.results.cell import Picture
from advkit.results.facts import Saved
from advkit.results.files import to_8_bits
from advkit.results.merge import merge
from advkit.results.store import Store

EXAMPLES = 6


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ``advkit attack --save --as png``; to be copied before it is changed."""
    folder = tmp_path_factory.mktemp("made")
    words = ["attack", "--attack", "pgd", "--attack", "fgsm", "--steps", 3, "--samples", EXAMPLES, "--eps", "8/255"]
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in (*words, "--save", folder, "--as", "png", "--quiet")])
    assert ended.value.code == 0
    return folder


@pytest.fixture
def saved(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "saved"))


def changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """As by somebody who seals what he changes, whom no checksum tells."""
    rewritten(folder / "evaluation.json", change)


@contextmanager
def entered_again(store: Store) -> Iterator[None]:
    """The same of a store."""
    study = store.study()
    assert study is not None
    store.reopen(study.samples)
    yield
    store.finish(study.samples)


def differs(run: Run, folder: Path, *code: str) -> str:
    answer = run("verify", folder, "--quiet", *(word for spec in code for word in ("--trust-code", spec)))
    assert answer.code == 1, answer
    *trusted, said = answer.err.splitlines()
    assert len(trusted) == len(code)
    assert all(line.startswith("trusted ") for line in trusted)
    assert said.startswith("Differs: ")
    return said.removeprefix("Differs: ")


def test_what_was_saved_holds_with_counts(run: Run, made: Path) -> None:
    answer = run("verify", made)
    assert answer.code == 0, answer
    assert answer.err == ""
    for line in ("data ", "model ", "clean ", "pgd@8/255 ", "fgsm@8/255 ", "figures ", "files "):
        assert f"right  {line}" in answer.out
    assert answer.out.splitlines()[-1] == f"{made} holds."
    found = run("verify", made, "--format", "json").json
    assert found["holds"]
    assert found["difference"] is None
    assert {each["count"] for each in found["verified"] if each["what"] == "pgd@8/255"} == {EXAMPLES}


def test_the_exact_form_holds_too_behind_a_defense_and_towards_a_target(run: Run, tmp_path: Path) -> None:
    flags = (
        "--attack",
        "pgd",
        "--norm",
        "l2",
        "--steps",
        2,
        "--samples",
        4,
        "--defense",
        "bits:5",
        "--targeted",
        "--quiet",
    )
    assert run("attack", *flags, "--eps", "1,2", "--save", tmp_path).code == 0
    answer = run("verify", tmp_path, "--strict")
    assert answer.code == 0, answer
    assert "undefended" in answer.out


def put(*path: Any) -> Callable[[dict[str, Any]], object]:
    """Put the last word of a path in the place that the others name."""
    *places, last, value = path

    def change(facts: dict[str, Any]) -> None:
        at: Any = facts
        for place in places:
            at = at[place]
        at[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put("outcomes", 0, "prediction", 2, 0), "example 2: answer is stored as 'stop'"),
        (put("outcomes", 1, "success", 3, "flip"), "fgsm@8/255, success"),
        (put("outcomes", 0, "distance", 1, 0.01), "example 1: distance is stored as 0.01"),
        (put("predictions", 4, 0), "example 4: answer without attack"),
        (put("labels", 0, 5), "example 0: label is stored as 5"),
        (put("rows", 0, "accuracy", 0.9), "rows[pgd at 8/255].accuracy is stored as 0.9"),
        (put("rows", 1, "reloaded", "over", 3), "reloaded.over is stored as 3, found is 0"),
        (put("worst", 0, "low", 0.5), "worst[8/255].low"),
        (put("run", "model_hash", "ab"), "hash of the weights of resnet20 is stored as 'ab'"),
        (put("run", "hashes", 5, "ab"), "example 5: hash of the clean picture of signs"),
        (put("outcomes", 0, "eps", "4/255"), "distance is stored as 'at most Linf 4/255"),
        (put("outcomes", 0, "attacked", 0, False), "example 0: pgd at 8/255, attacked"),
        (put("outcomes", 0, "reloaded", "distance", 3, 0.01), "example 3: distance is stored"),
        (put("outcomes", 0, "reloaded", "files", 3, "../x.png"), "example 3: file of the picture"),
    ],
)
def test_a_fact_that_is_changed_is_named(
    run: Run, saved: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    def apply(facts: dict[str, Any]) -> None:
        before = json.loads(json.dumps(facts))
        change(facts)
        for old, new in zip(before["outcomes"], facts["outcomes"], strict=True):
            new["success"] = [not o if n == "flip" else n for o, n in zip(old["success"], new["success"], strict=True)]

    changed(saved, apply)
    assert said in differs(run, saved)


def shard(folder: Path) -> Path:
    return folder / "pgd@8-255" / "examples-0000.safetensors"


def test_a_picture_that_is_changed_is_named_with_its_example(run: Run, saved: Path) -> None:
    tensors = load_file(shard(saved))
    row = int((tensors["index"] == 3).nonzero())
    tensors["x_adv"][row, 0, 5, 5] = (tensors["x_adv"][row, 0, 5, 5] + 0.5) % 1
    save_file(tensors, shard(saved))
    said = differs(run, saved)
    assert (
        "examples-0000.safetensors, example 3: distance is stored as 'at most Linf 8/255 (0.0314)', found is 0." in said
    )


def test_a_change_that_alters_no_answer_and_no_distance_is_found_by_the_hash(run: Run, saved: Path) -> None:
    tensors = load_file(shard(saved))
    save_file(tensors, shard(saved), metadata={"by": "another"})
    assert "examples-0000.safetensors was changed after it was written" in differs(run, saved)


def test_a_file_in_8_bits_that_leaves_the_ball_is_named(run: Run, saved: Path) -> None:
    path = min((saved / "fgsm@8-255").glob("00002-*.png"))
    pixels = np.array(Image.open(path))
    pixels[0, 0, 0] ^= 128
    Image.fromarray(pixels).save(path)
    said = differs(run, saved)
    assert path.name in said
    assert "example 2: distance is stored as 'at most Linf 8/255" in said


def test_a_clean_picture_that_is_changed_is_named(run: Run, saved: Path) -> None:
    path = min((saved / "clean").glob("00001-*.png"))
    pixels = np.array(Image.open(path))
    pixels[3, 4, 1] ^= 1
    Image.fromarray(pixels).save(path)
    assert f"{path}, example 1: grey level at (1, 3, 4)" in differs(run, saved)


@pytest.mark.parametrize("name", ["pgd@8-255/examples-0000.safetensors", "pgd@8-255/00001-*.png", "clean/00003-*.png"])
@pytest.mark.parametrize("harm", ["cut", "gone"])
def test_files_that_are_cut_off_or_missing_are_one_sentence(run: Run, saved: Path, name: str, harm: str) -> None:
    (path,) = saved.glob(name)
    path.unlink() if harm == "gone" else path.write_bytes(path.read_bytes()[:99])
    said = differs(run, saved)
    assert path.name in said or path.parent.name in said
    assert said.endswith(".")


def test_facts_that_are_cut_off_are_one_sentence(run: Run, saved: Path) -> None:
    path = saved / "evaluation.json"
    path.write_text(path.read_text()[:5000])
    assert "cut off" in differs(run, saved)
    changed_facts = json.dumps({"n": 3})
    path.write_text(changed_facts)
    assert "does not say how it was made" in differs(run, saved)


def test_facts_that_do_not_fit_each_other_are_one_sentence(run: Run, saved: Path) -> None:
    changed(saved, lambda facts: facts["outcomes"][0]["success"].pop())
    assert "pgd: success: 5 values for 6 examples" in differs(run, saved)


def test_a_folder_of_nothing_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "holds no evaluation.json" in refused("verify", tmp_path)


def test_a_model_that_has_moved_is_given_again(run: Run, tmp_path: Path, npz: Callable[..., Path]) -> None:
    (tmp_path / "own.py").write_text(
        "import torch\nfrom torch import nn\n\n\ndef net():\n    torch.manual_seed(3)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 6))\n"
    )
    data = npz(y=np.zeros(6, int))
    flags = ("--model", f"{tmp_path}/own.py:net", "--data", data, "--attack", "fgsm", "--quiet")
    assert run("attack", *flags, "--save", tmp_path / "out").code == 0
    assert run("verify", tmp_path / "out", "--trust-code", f"{tmp_path}/own.py:net").code == 0
    (tmp_path / "own.py").rename(tmp_path / "moved.py")
    answer = run("verify", tmp_path / "out", "--trust-code", f"{tmp_path}/own.py:net")
    assert answer.code == 2
    assert "--model" in answer.err
    assert run("verify", tmp_path / "out", "--model", f"{tmp_path}/moved.py:net").code == 0
    (tmp_path / "moved.py").write_text((tmp_path / "moved.py").read_text().replace("seed(3)", "seed(4)"))
    answer = run("verify", tmp_path / "out", "--model", f"{tmp_path}/moved.py:net")
    assert answer.code == 1
    assert "hash of the weights" in answer.err


def test_answers_at_a_tie_of_two_classes_are_a_doubt(run: Run, tmp_path: Path, npz: Callable[..., Path]) -> None:
    (tmp_path / "own.py").write_text(
        "import torch\nfrom torch import nn\n\n\ndef net():\n    torch.manual_seed(3)\n"
        "    made = nn.Sequential(nn.Flatten(), nn.Linear(3072, 6))\n    made[1].bias.data[:2] = 9\n"
        "    made[1].weight.data[1] = made[1].weight.data[0]\n    return made\n"
    )
    flags = ("--model", f"{tmp_path}/own.py:net", "--data", npz(y=np.zeros(6, int)), "--attack", "fgsm", "--quiet")
    assert run("attack", *flags, "--save", tmp_path / "out").code == 0

    def other_class(facts: dict[str, Any]) -> None:
        facts["outcomes"][0]["prediction"][2], facts["outcomes"][0]["success"][2] = 1, True
        facts |= Saved(tmp_path, facts).result.to_json()

    changed(tmp_path / "out", other_class)
    Image.new("RGB", (32, 32)).save(tmp_path / "out" / "fgsm@8-255" / "00002-0-as-1.png")
    assert "grey level" in differs(run, tmp_path / "out", f"{tmp_path}/own.py:net"), (
        "the picture of the success is looked at too"
    )
    shutil.copy(picture_of(tmp_path / "out", 2), tmp_path / "out" / "fgsm@8-255" / "00002-0-as-1.png")
    trust = ("--trust-code", f"{tmp_path}/own.py:net")
    answer = run("verify", tmp_path / "out", *trust)
    assert answer.code == 0, answer
    assert "doubt  1 answer differs from the stored one at a tie of two classes" in answer.out
    assert run("verify", tmp_path / "out", *trust, "--strict").code == 1


def picture_of(folder: Path, index: int) -> Path:
    """The saved adversarial picture of an example, rounded to 8 bits towards the clean one."""
    tensors = load_file(folder / "fgsm@8-255" / "examples-0000.safetensors")
    clean = np.load(folder.parent / "own.npz")["x"][index]
    x_adv = tensors["x_adv"][int((tensors["index"] == index).nonzero())]
    levels = to_8_bits(x_adv, torch.from_numpy(clean).permute(2, 0, 1).float() / 255)
    Image.fromarray(levels.permute(1, 2, 0).numpy()).save(folder / "drawn.png")
    return folder / "drawn.png"


def test_what_a_model_that_draws_answered_is_not_verified_and_its_budgets_are(
    run: Run, tmp_path: Path, npz: Callable[..., Path]
) -> None:
    (tmp_path / "own.py").write_text(
        "import torch\nfrom torch import nn\n\n\nclass Net(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        torch.manual_seed(3)\n        self.net = nn.Linear(3072, 6)\n\n"
        "    def forward(self, x):\n        return self.net((x + 0.1 * torch.randn_like(x)).flatten(1))\n"
    )
    flags = ("--model", f"{tmp_path}/own.py:Net", "--data", npz(), "--attack", "noise", "--eps", "8/255", "--quiet")
    assert run("attack", *flags, "--save", tmp_path / "out").code == 0
    trust = ("--trust-code", f"{tmp_path}/own.py:Net")
    answer = run("verify", tmp_path / "out", *trust)
    assert answer.code == 0, answer
    assert "draws at random" in answer.out
    assert run("verify", tmp_path / "out", *trust, "--strict").code == 1
    changed(tmp_path / "out", put("outcomes", 0, "eps", "4/255"))
    said = differs(run, tmp_path / "out", f"{tmp_path}/own.py:Net")
    assert "distance" in said or "eps" in said


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("swept") / "study"
    words = ["sweep", "--attack", "pgd", "--eps", "4/255,8/255", "--samples", EXAMPLES, "--steps", 3, "--out", folder]
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in (*words, "--quiet")])
    assert ended.value.code == 0
    return folder


def test_a_sweep_holds(run: Run, swept: Path) -> None:
    answer = run("verify", swept, "--strict")
    assert answer.code == 0, answer
    assert "answers without attack" in answer.out
    assert "kept pictures inside their radius" in answer.out


def test_facts_of_a_sweep_that_were_changed_are_named(run: Run, swept: Path, tmp_path: Path) -> None:
    store = Store(Path(shutil.copytree(swept, tmp_path / "study")))
    record = next(each for each in store.records() if not each.cell.stages)
    ((span, _),) = store.shards(record.cell)
    facts = store.facts(record.cell)
    assert facts is not None
    answers = facts.clean.copy()
    answers[2] = 0
    with entered_again(store):
        store.write(record.cell, span, replace(facts, clean=answers))
    assert "example 2" in differs(run, store.folder)


def test_a_shard_of_a_sweep_that_is_cut_off_is_named(run: Run, swept: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(swept, tmp_path / "study"))
    path = min(folder.glob("cells/*/0*.safetensors"))
    path.write_bytes(path.read_bytes()[:-8])
    said = differs(run, folder)
    assert str(path) in said
    assert "is damaged" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: replace(p, x_adv=p.x_adv ^ np.uint8(128)), "distance is stored as 'at most Linf"),
        (lambda p: replace(p, x=p.x ^ np.uint8(1)), "clean picture is stored as 'another one'"),
        (lambda p: replace(p, prediction=(p.prediction + 1) % 35), "answer is stored as"),
        (lambda p: replace(p, distance=0.5), "distance is stored as 0.5"),
        (lambda p: replace(p, eps="1/255"), "attack is stored as 'pgd at 1/255'"),
    ],
)
def test_a_kept_picture_of_a_sweep_that_was_changed_is_named(
    run: Run, swept: Path, tmp_path: Path, change: Callable[[Picture], Picture], said: str
) -> None:
    store = Store(Path(shutil.copytree(swept, tmp_path / "study")))
    record = next(each for each in store.records() if each.cell.stages)
    ((span, _),) = store.shards(record.cell)
    facts, (first, *others) = store.facts(record.cell), store.pictures(record.cell)
    assert facts is not None
    with entered_again(store):
        store.write(record.cell, span, facts, [change(first), *others])
    found = differs(run, store.folder)
    assert said in found
    assert f"example {first.index}" in found


def test_what_nobody_could_be_asked_about_is_not_verified(run: Run, tmp_path: Path) -> None:
    answer = run("verify", small(tmp_path))
    assert answer.code == 1
    assert "holds" not in answer.out
    assert "net is not asked" in answer.out
    assert answer.err.startswith("Not verified: no model could be asked")
    found = run("verify", tmp_path, "--format", "json").json
    assert (found["holds"], found["difference"], found["answers_asked_again"]) == (False, None, 0)


def test_models_that_could_not_be_asked_are_counted_beside_those_that_hold(
    run: Run, swept: Path, tmp_path: Path
) -> None:
    store = Store(Path(shutil.copytree(swept, tmp_path / "study")))
    merge(store, [Store(small(tmp_path / "other"))])
    answer = run("verify", store.folder)
    assert answer.code == 0, answer
    assert answer.out.endswith("holds, but for 2 models that could not be asked.\n")
    assert run("verify", store.folder, "--strict").code == 1
