"""Bad input: one clear sentence on standard error, exit code 2, nothing on standard output; nothing is computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import QUICK, Run
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import advkit
from advkit.scene.sticker import Sticker

SHIPPED = Path(advkit.__file__).parent / "weights" / "resnet20-signs-standard.safetensors"
Refused = Callable[..., str]
Npz = Callable[..., Path]


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (("atack",), ("'atack'", "'attack'", "train")),
        (("attack", "--model", "resent"), ("'resent'", "'resnet'", "advkit list backbones")),
        (("attack", "--attack", "pdg"), ("'pdg'", "Did you mean 'pgd'?", "advkit list attacks")),
        (("attack", "--data", "sings"), ("'sings'", "Did you mean 'signs'?", "cifar10", "folder")),
        (("attack", "--attack", "pgd", "--loss", "margn"), ("'margn'", "Did you mean 'margin'?", "dlr")),
        (("attack", "--norm", "linff"), ("'linff'", "Did you mean 'linf'?", "l2")),
        (("attack", "--format", "jsno"), ("'jsno'", "Did you mean 'json'?", "latex")),
        (("attack", "--precision", "flot"), ("'flot'", "'float32'", "mixed")),
        (("attack", "--targeted", "nxt"), ("'nxt'", "Did you mean 'next'?", "random", "0 to 34")),
        (("attack", "--target", "stpo"), ("'stpo'", "Did you mean 'stop'?", "0 to 34")),
        (("attack", "--exclude", "99"), ("'99'", "0 to 34")),
        (("attack", "--bogus"), ("--bogus", "See advkit attack --help")),
        (("attack", "extra"), ("extra", "See advkit attack --help")),
        (("attack", "--samples", "x"), ("--samples", "'x'", "integer")),
        (("--bogus",), ("--bogus", "See advkit --help")),
        (("list", "atacks"), ("'atacks'", "'attacks'", "losses")),
        (("train", "--defense", "pgdat", "--out", "x.safetensors"), ("'pgdat'", "'pgd-at'")),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(
    refused: Refused, args: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    said = refused(*args)
    assert all(part in said for part in parts), said


@pytest.mark.parametrize(
    ("eps", "parts"),
    [
        ("abc", ("'abc'", "8/255", "8px", "0.031")),
        ("-1", ("-1", "0 or more", "8/255")),
        ("8", ("8", "[0, 1]", "write 8/255")),
        ("inf", ("eps is inf", "finite radius")),
        ("nan", ("'nan'", "8/255")),
        ("1e400", ("1e400",)),
        ("8/0", ("'8/0'",)),
        ("", ("--eps is empty",)),
        ("8/255,abc", ("'abc'",)),
    ],
)
def test_a_radius_that_is_none(refused: Refused, eps: str, parts: tuple[str, ...]) -> None:
    said = refused("attack", "--eps", eps)
    assert all(part in said for part in parts), said


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (("--attack", "fgsm", "--steps", "3"), ("--steps reaches no attack", "fgsm", "direction")),
        (("--loss", "margin"), ("--loss reaches no attack", "worst-case")),
        (("--set", "stepz=3"), ("--set stepz", "Did you mean 'steps'?")),
        (("--set", "foo"), ("'foo'", "KEY=VALUE")),
        (("--set", "=foo"), ("'=foo'", "KEY=VALUE")),
        (("--set", "threat=8/255"), ("--norm", "--eps")),
        (("--steps", "3", "--set", "steps=3"), ("steps", "twice")),
        (("--set", "steps=many"), ("'many'", "whole number")),
        (("--steps", "0"), ("steps is 0", "1 or more")),
        (("--restarts", "0"), ("restarts is 0", "1 or more")),
        (("--step-size", "0"), ("step_size is 0", "above 0")),
        (("--step-size", "nan"), ("--step-size is nan", "finite number")),
        (("--samples", "0"), ("0 examples", "at least 1")),
        (("--samples", "-3"), ("-3 examples", "at least 1")),
        (("--batch-size", "0"), ("--batch-size is 0", "1 or more")),
        (("--device", "nonsense"), ("'nonsense'", "cpu")),
        (("--seed", "-1"), ("--seed", "-1")),
        (("--seed", str(2**70)), ("--seed", str(2**70))),
        (("--targeted", "next", "--target", "stop"), ("--targeted next", "--target stop", "one of them")),
        (("--label", "stop"), ("--label", "--image")),
        (("--attack", "fgsm", "--attack", "salt"), ("share no norm", "salt in L0")),
        (("--norm", "l0"), ("standard", "L0", "L1")),
        (("--attack", "salt", "--eps", "0.5"), ("0.5", "whole number")),
        (("--size", "0"), ("size is 0",)),
        (("--data-set", "splt=train"), ("'splt'", "'split'")),
        (("--normalize", "1,x:2"), ("--normalize", "numbers")),
        (("--image", "no.jpg"), ("no.jpg", "does not exist")),
        (("--image", "."), ("is a folder",)),
        (("--image", __file__), ("cannot be read", "no picture")),
        (("--figure", "panda.xyz"), ("'panda.xyz'", ".png, .svg or .pdf")),
        (("--figure", "panda"), ("'panda'", ".png, .svg or .pdf")),
        (("--figure", "/proc/no/panda.png"), ("/proc/no", "cannot be written")),
        (("--save", "/proc/no"), ("/proc/no", "cannot be written", "give another")),
        (("--save", f"{__file__}/below"), ("cannot be written",)),
    ],
)
def test_a_flag_with_a_value_that_means_nothing(
    refused: Refused, flags: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    said = refused("attack", *flags)
    assert all(part in said for part in parts), said


def test_a_picture_and_other_data_at_once(refused: Refused) -> None:
    assert "--data" in refused("attack", "--image", __file__, "--data", "signs")
    assert "--exclude" in refused("attack", "--image", __file__, "--exclude", "stop")


def test_weights_for_another_number_of_classes(refused: Refused, npz: Npz) -> None:
    said = refused("attack", "--data", npz(classes=list("abcdef")), "--weights", SHIPPED)
    assert all(part in said for part in ("35 classes", "6 are asked for", "weights"))


def test_weights_for_another_number_of_channels(refused: Refused, npz: Npz, arrays: tuple[np.ndarray, ...]) -> None:
    said = refused("attack", "--data", npz(x=arrays[0][..., 0]), "--weights", SHIPPED)
    assert all(part in said for part in ("3 channels", "1 are asked for"))


def test_weights_that_are_not_numbers(refused: Refused, tmp_path: Path) -> None:
    with safe_open(SHIPPED, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(SHIPPED)
    tensors["conv1.weight"][0, 0, 0, 0] = float("nan")
    save_file(tensors, tmp_path / "bad.safetensors", metadata=metadata)
    for flag in ("--weights", "--model"):
        said = refused("attack", flag, tmp_path / "bad.safetensors")
        assert all(part in said for part in ("bad.safetensors", "conv1.weight", "NaN"))


class Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("flag", ["--weights", "--model"])
def test_a_checkpoint_that_would_run_code_does_not(refused: Refused, tmp_path: Path, flag: str) -> None:
    torch.save({"weight": Runs(tmp_path / "ran")}, tmp_path / "evil.pt")
    said = refused("attack", flag, tmp_path / "evil.pt")
    assert all(part in said for part in ("evil.pt", "code", "state_dict"))
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert (tmp_path / "ran").exists(), "the file of this test runs nothing"


def test_a_model_file_that_does_not_exist(refused: Refused) -> None:
    assert "nothing.safetensors" in refused("attack", "--model", "nothing.safetensors")


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        ({"x": np.full((6, 32, 32, 3), 1.5)}, ("1.5", "[0, 1]")),
        ({"x": np.full((6, 32, 32, 3), np.nan)}, ("nan", "[0, 1]")),
        ({"y": np.arange(6) + 100}, ("100", "out of range", "0 to 34")),
        ({"y": np.arange(6) - 1}, ("-1", "negative")),
        ({"y": np.arange(5)}, ("(5,)", "6 pictures")),
        ({"y": None}, ("no array y", "holds x")),
        ({"x": None}, ("no array x",)),
    ],
)
def test_arrays_that_cannot_be_used(
    refused: Refused, npz: Npz, changed: dict[str, object], parts: tuple[str, ...]
) -> None:
    said = refused("attack", "--data", npz(**changed), "--weights", SHIPPED)
    assert all(part in said for part in parts), said


def test_an_empty_folder(refused: Refused, tmp_path: Path) -> None:
    assert "holds no pictures" in refused("attack", "--data", tmp_path)


def test_a_truncated_picture_is_named(refused: Refused, folder: Path) -> None:
    said = refused("attack", "--data", folder, "--model", "lenet", "--weights", "random", "--size", "32")
    assert str(folder / "a" / "1.jpg") in said


@pytest.mark.filterwarnings("default")
def test_a_truncated_picture_is_left_out_where_that_is_asked_for(run: Run, folder: Path) -> None:
    flags = ("--data", folder, "--model", "lenet", "--weights", "random", "--skip-bad", "--attack", "fgsm")
    answer = run("attack", *flags, "--format", "json")
    assert answer.json["n"] == 3
    assert "Note: " in answer.err
    assert "a/1.jpg" in answer.err
    assert ".py:" not in answer.err


def test_a_target_that_is_the_label_already(refused: Refused, run: Run) -> None:
    flags = ("attack", "--samples", "40", "--attack", "fgsm", "--target", "stop")
    said = refused(*flags)
    assert all(part in said for part in ("equals the label in 1 of 40", "--exclude stop"))
    assert run(*flags, "--exclude", "stop").code == 0


def test_a_model_that_answers_nan_is_no_bug_of_advkit(run: Run, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def forward(self, x):\n"
        "        return x.flatten(1)[:, :35] + float('nan')\n"
        "def net(): return Net()\n"
    )
    answer = run("attack", *QUICK, "--model", f"{tmp_path}/own.py:net")
    assert answer.code == 1
    assert "NaN" in answer.err
    assert "Traceback" not in answer.err


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    import advkit.engine.evaluate
    from advkit.cli import main

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(advkit.engine.evaluate, "evaluate", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        main(["attack", *QUICK])


def test_an_attack_that_leaves_its_ball_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    from advkit.cli import main
    from advkit.core import Linf

    monkeypatch.setattr(Linf, "project", lambda self, x_adv, x: x_adv)
    with pytest.raises(advkit.ThreatViolation, match="outside Linf"):
        main(["attack", *QUICK])


def test_what_is_too_long_to_read_is_not_said_in_whole(refused: Refused) -> None:
    for words in (
        ("attack", "--samples", "9" * 9000),
        ("attack", "--attack", "a" * 9000),
    ):
        assert len(refused(*words)) < 1500


def test_what_would_steer_a_terminal_is_written_out(refused: Refused) -> None:
    assert "a\\nb\\x1b[2Jc" in refused("print", "a\nb\x1b[2Jc")


ONE_SCORE = """
from torch import nn

class One(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 32 * 32, 1)

    def forward(self, x):
        return self.layer(x.flatten(1))
"""


@pytest.mark.parametrize(
    "words",
    [
        ("attack",), ("sweep", "--out", "out"), ("train", "--out", "out.safetensors"), ("drive", "bars"),
        ("certify", "--out", "out"), ("check",), ("detect",), ("sticker", "--class", "stop", "--out", "out"),
        ("train-denoiser", "--out", "out.safetensors"),
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_a_model_of_one_score_is_refused_by_every_command(
    refused: Refused, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("one.py").write_text(ONE_SCORE)
    if words[0] == "drive":
        Path("bars").mkdir()
        rgba = torch.zeros(4, 64, 64)
        rgba[3, 14:21, 12:52] = 1
        Sticker(rgba, 600.0, {"class": "stop", "target": "yield"}).save(Path("bars"))
    said = refused(*words, "--model", "one.py:One")
    assert said.startswith(
        "one.py:One answers one score per picture, (1, 1), and no class can be told by a single score"
    )
    assert not list(Path().glob("out*/*")), "nothing is left"
    assert not Path("out.training").exists()
