"""``--save``, ``--figure``, ``--image``, and Ctrl-C."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import QUICK, Run
from PIL import Image
from safetensors.torch import load_file

import advkit
from advkit.core import Linf
from advkit.errors import WriteError
from advkit.results.files import to_8_bits


def test_what_is_saved_says_again_what_the_table_said(run: Run, tmp_path: Path) -> None:
    flags = ("--attack", "pgd", "--attack", "fgsm", "--steps", 3, "--samples", 8, "--eps", "8/255,2px")
    answer = run("attack", *flags, "--save", tmp_path, "--format", "json")
    facts = json.loads((tmp_path / "evaluation.json").read_text())
    assert {key: facts[key] for key in answer.json} == answer.json
    data = advkit.load_data("signs", samples=8)
    net = advkit.load_model("resnet", data=data)
    clean = data.pictures(range(8))
    assert facts["predictions"] == net(clean).argmax(1).tolist()
    assert {outcome["folder"] for outcome in facts["outcomes"]} == {
        "pgd@8-255",
        "fgsm@8-255",
        "pgd@2-255",
        "fgsm@2-255",
    }
    for outcome in facts["outcomes"]:
        (file,) = (tmp_path / outcome["folder"]).glob("*.safetensors")
        shard = load_file(file)
        index = shard["index"]
        assert sorted(index.tolist()) == [i for i, attacked in enumerate(outcome["attacked"]) if attacked]
        prediction = torch.tensor(outcome["prediction"])[index]
        assert torch.equal(net(shard["x_adv"]).argmax(1), prediction)
        distance = torch.tensor(outcome["distance"], dtype=torch.float64)[index]
        assert torch.equal(Linf(outcome["eps"]).distance(shard["x_adv"], clean[index]), distance)
        won = torch.tensor(outcome["success"])[index]
        assert torch.equal(won, prediction != torch.tensor(facts["labels"])[index])
        drawn = sorted((tmp_path / outcome["folder"]).glob("*.png"))
        assert [int(path.name[:5]) for path in drawn] == sorted(index[won].tolist())
        for path in drawn:
            i = int(path.name[:5])
            label, seen = (data.classes[k].replace(" ", "_") for k in (facts["labels"][i], outcome["prediction"][i]))
            assert path.name == f"{i:05d}-{label}-as-{seen}.png"
            levels = torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1)
            x_adv = shard["x_adv"][(index == i).nonzero()[0, 0]]
            assert torch.equal(levels, to_8_bits(x_adv, clean[i]))
            moved = (levels.int() - (clean[i] * 255).round().int()).abs().max()
            assert 0 < moved <= int(outcome["eps"].split("/")[0])


def test_a_second_run_leaves_nothing_of_the_first_among_its_examples(run: Run, tmp_path: Path) -> None:
    for count in (8, 2):
        run("attack", "--attack", "fgsm", "--samples", count, "--save", tmp_path, "--quiet")
    drawn = [path.name for path in (tmp_path / "fgsm@8-255").glob("*.png")]
    assert all(int(name[:5]) < 2 for name in drawn)
    assert len(load_file(tmp_path / "fgsm@8-255" / "examples-0000.safetensors")["index"]) == 2


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_figure_of_a_batch_is_drawn(run: Run, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"panda.{suffix}"
    assert run("attack", "--attack", "fgsm", "--samples", 2, "--figure", path).code == 0
    if suffix == "png":
        picture = Image.open(path)
        assert picture.width > 1000
        assert len(np.unique(np.asarray(picture.convert("L")))) > 50


def test_a_figure_says_the_names_of_the_classes(run: Run, tmp_path: Path) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"svg.fonttype": "none"}):
        run("attack", "--attack", "fgsm", "--samples", 1, "--figure", tmp_path / "f.svg", "--targeted", "stop")
        fgsm = (tmp_path / "f.svg").read_text()
        run("attack", "--attack", "worst-case", "--steps", 3, "--samples", 1, "--figure", tmp_path / "g.svg")
        other = (tmp_path / "g.svg").read_text()
    assert "us speed limit 35" in fgsm
    assert fgsm.count("% confidence") == 3
    assert "8/255 × sign of the gradient" in fgsm
    assert "perturbation, scaled (at most 8/255)" in other
    assert other.count("% confidence") == 2


def test_nothing_to_draw_is_said_after_the_table(run: Run, npz: Callable[..., Path], tmp_path: Path) -> None:
    data = npz(y=np.full(6, 9))
    flags = ("--model", "lenet", "--weights", "random", "--data", data, "--attack", "fgsm", "--quiet")
    assert run("attack", *flags, "--format", "json").json["clean"]["accuracy"] == 0
    answer = run("attack", *flags, "--figure", tmp_path / "f.png")
    assert answer.code == 2
    assert "none (clean)" in answer.out
    assert "nothing to draw" in answer.err
    assert not (tmp_path / "f.png").exists()


@pytest.fixture
def sign(tmp_path: Path) -> Path:
    """A picture file of a sign, larger than the model takes it."""
    picture = advkit.load_data("signs", size=64).pictures([0])[0]
    Image.fromarray((picture * 255).round().byte().permute(1, 2, 0).numpy()).save(tmp_path / "sign.png")
    return tmp_path / "sign.png"


def test_a_picture_of_unknown_class_is_attacked_away_from_what_the_model_says(
    run: Run, sign: Path, tmp_path: Path
) -> None:
    flags = ("--image", sign, "--model", "resnet", "--attack", "pgd", "--eps", "16/255")
    answer = run("attack", *flags, "--figure", tmp_path / "f.png", "--format", "json")
    assert answer.json["n"] == 1
    assert answer.json["clean"]["accuracy"] == 1
    assert answer.json["worst"][0]["accuracy"] == 0
    assert "us speed limit 35 -> " in answer.err
    assert (tmp_path / "f.png").is_file()


def test_several_pictures_and_a_label(run: Run, sign: Path) -> None:
    flags = ("--image", sign, "--image", sign, "--model", "resnet", "--attack", "fgsm", "--format", "json")
    assert run("attack", *flags, "--label", "us speed limit 35").json["n"] == 2
    assert run("attack", *flags, "--label", "stop").json["clean"]["accuracy"] == 0


def test_a_label_by_number_keeps_the_names_of_the_classes(run: Run, sign: Path) -> None:
    number = advkit.load_data("signs").classes.index("us speed limit 35")
    answer = run("attack", "--image", sign, "--model", "resnet", "--attack", "fgsm", "--label", number)
    assert "us speed limit 35 -> " in answer.err


def test_without_a_network_the_default_for_pictures_says_what_to_do(
    run: Run, sign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        print("Downloading")
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    answer = run("attack", "--image", sign)
    assert answer.code == 2
    assert answer.out == ""
    assert "torchvision:googlenet" in answer.err
    assert "no network" in answer.err


def interrupting(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Ctrl-C when attack number ``at`` takes its second step."""
    from advkit.engine.run import Run as Loop

    begun: list[Loop] = []
    go, advance = Loop.go, Loop._advance

    def counted(self: Loop, *args: object, **named: object) -> None:
        begun.append(self)
        go(self, *args, **named)  # type: ignore[arg-type]

    def pressed(self: Loop, lanes: object) -> object:
        if len(begun) == at and bool((lanes.taken > 0).all()):  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        return advance(self, lanes)  # type: ignore[arg-type]

    monkeypatch.setattr(Loop, "go", counted)
    monkeypatch.setattr(Loop, "_advance", pressed)


def test_what_was_finished_before_ctrl_c_is_printed_and_saved(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    interrupting(monkeypatch, at=2)
    flags = ("--attack", "pgd", "--eps", "4/255,8/255", "--save", tmp_path, "--figure", tmp_path / "f.png")
    answer = run("attack", *QUICK[:4], *flags, "--format", "json")
    assert answer.code == 130
    assert [row["eps"] for row in answer.json["rows"]] == ["4/255"]
    assert "Interrupted" in answer.err
    facts = json.loads((tmp_path / "evaluation.json").read_text())
    assert [outcome["eps"] for outcome in facts["outcomes"]] == ["4/255"]
    assert (tmp_path / "pgd@4-255" / "examples-0000.safetensors").is_file()


def test_ctrl_c_in_the_first_attack_leaves_the_accuracy_without_attack(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupting(monkeypatch, at=1)
    answer = run("attack", *QUICK)
    assert answer.code == 130
    assert "none (clean)" in answer.out
    assert "pgd" not in answer.out


def test_ctrl_c_before_anything_is_known_prints_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import advkit.engine.evaluate

    def pressed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(advkit.engine.evaluate, "evaluate", pressed)
    answer = run("attack", *QUICK, "--quiet")
    assert (answer.code, answer.out) == (130, "")
    assert answer.err.strip() == "Interrupted."


@pytest.mark.real
@pytest.mark.parametrize(("name", "right"), [("mobilenet_v2", 175), ("squeezenet1_1", 135)])
def test_photos_are_read_as_their_networks_were_trained(run: Run, real_data: Path, name: str, right: int) -> None:
    from advkit.engine.evaluate import accuracy

    data = advkit.load_data(str(real_data / "imagenet_sample"), size=224)
    weights = real_data / "weights" / f"imagenet_{name}.safetensors"
    net = advkit.load_model(f"torchvision:{name}", weights=weights, data=data)
    assert len(data) == 201
    assert round(accuracy(net, data).value * 201) == right


@pytest.mark.real
def test_the_panda_becomes_something_else(run: Run, real_data: Path, tmp_path: Path) -> None:
    answer = run(
        *("attack", "--image", real_data / "photos" / "panda_quqixun.jpg", "--model", "torchvision:mobilenet_v2"),
        *("--weights", real_data / "weights" / "imagenet_mobilenet_v2.safetensors"),
        *("--attack", "fgsm", "--eps", "0.007", "--figure", tmp_path / "panda.png"),
    )
    assert "giant panda -> Eskimo dog under fgsm" in answer.err
    assert (tmp_path / "panda.png").is_file()


def test_as_png_every_adversarial_picture_is_a_file_that_was_read_again(run: Run, tmp_path: Path) -> None:
    flags = ("--attack", "pgd", "--steps", 3, "--samples", 6, "--eps", "2/255,8/255", "--save", tmp_path, "--as", "png")
    answer = run("attack", *flags, "--format", "json", "--quiet")
    assert answer.code == 0, answer
    facts = json.loads((tmp_path / "evaluation.json").read_text())
    data = advkit.load_data("signs", samples=6)
    net = advkit.load_model("resnet", data=data)
    for row, outcome in zip(answer.json["rows"], facts["outcomes"], strict=True):
        assert set(row["reloaded"]) == {"accuracy", "success", "low", "high", "over"}
        assert row["reloaded"]["over"] == 0
        files = sorted((tmp_path / outcome["folder"]).glob("*.png"))
        assert [path.name for path in files] == outcome["reloaded"]["files"]
        levels = torch.stack([torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) for path in files])
        clean = [np.array(Image.open(path)) for path in sorted((tmp_path / "clean").glob("*.png"))]
        before = torch.stack([torch.from_numpy(pixels).permute(2, 0, 1) for pixels in clean])
        assert torch.equal(before.float() / 255, data.pictures(range(6)))
        assert 0 < (levels.int() - before.int()).abs().max() <= int(row["eps"].split("/")[0])
        right = (net(levels.float() / 255).argmax(1) == data.labels).double().mean()
        assert row["reloaded"]["accuracy"] == float(right)
        assert abs(row["reloaded"]["success"] - row["success"]) <= 1 / 6
    table = run("attack", *flags, "--quiet").out
    assert "files %" in table
    assert "of 12 files 0 lie outside their radius" in " ".join(table.split())
    assert "reloaded_over" in run("attack", *flags, "--format", "csv", "--quiet").out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--as", "png"), "say where, with --save DIR"),
        (("--as", "jpeg", "--save", "out"), "'jpeg' is not the name of a form"),
    ],
)
def test_a_form_that_cannot_be_is_refused(refused: Callable[..., str], flags: tuple[str, ...], said: str) -> None:
    assert said in refused("attack", "--attack", "fgsm", "--samples", 2, *flags)


@pytest.mark.parametrize("harm", ["full disk", "Ctrl-C"])
def test_a_table_survives_what_befalls_its_files(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    from advkit.results.files import Saver

    def befallen(*_: object, **__: object) -> Path:
        raise WriteError("no room") if harm == "full disk" else KeyboardInterrupt

    monkeypatch.setattr(Saver, "put_picture", befallen)
    answer = run("attack", "--attack", "fgsm", "--samples", 3, "--save", tmp_path, "--as", "png", "--quiet")
    assert answer.code == {"full disk": 2, "Ctrl-C": 130}[harm]
    assert "worst case" in answer.out
    assert (tmp_path / "evaluation.json").exists() == (harm == "Ctrl-C")
    assert ("no room" if harm == "full disk" else "Interrupted") in answer.err
