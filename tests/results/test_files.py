"""Files are whole or not there, and a picture in 8 bits stays in the ball."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_outcome import evaluation, outcome

from advkit.errors import InputError
from advkit.results import files
from advkit.results.files import Saver, to_8_bits, write_whole


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    write_whole(path, lambda beside: beside.write_text("old"))

    def full(beside: Path) -> None:
        beside.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match=r"facts\.json.*No space left on device"):
        write_whole(path, full)
    assert os.listdir(tmp_path) == ["facts.json"]
    assert path.read_text() == "old"


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        write_whole(tmp_path / "file" / "facts.json", lambda beside: beside.write_text(""))


@pytest.mark.parametrize("levels", [1, 8, 16])
def test_rounding_to_8_bits_never_leaves_the_ball(levels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (500, 3, 4, 4), generator=generator) / 255
    noise = (torch.rand(x.shape, generator=generator) * 2 - 1) * levels / 255
    corners = torch.where(noise > 0, levels / 255, -levels / 255)
    for change in (noise, corners, torch.zeros_like(x)):
        x_adv = (x + change).clamp(0, 1)
        moved = (to_8_bits(x_adv, x).int() - (x * 255).round().int()).abs()
        assert moved.max() <= levels
        if change is corners:
            inner = (x * 255 >= levels) & (x * 255 <= 255 - levels)
            assert (moved[inner] == levels).all(), "a whole number of levels is kept"


def saver(tmp_path: Path) -> Saver:
    return Saver(tmp_path, lambda indices: torch.full((len(indices), 3, 4, 4), 0.5))


def test_examples_are_written_in_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_SHARD", 2)
    save = saver(tmp_path)
    for i in (3, 0, 2, 1):
        save.add("a@8/255", torch.tensor([i]), torch.full((1, 3, 4, 4), 0.5 + i / 255))
    assert (tmp_path / "a@8-255" / "examples-0001.safetensors").is_file(), "memory does not grow with the data"
    save.close(evaluation(outcome("a", [1, 1, 0, 1, 0])))
    shards = [load_file(tmp_path / "a@8-255" / f"examples-000{k}.safetensors") for k in range(2)]
    assert [shard["index"].tolist() for shard in shards] == [[3, 0], [2, 1]]
    assert sorted(path.name for path in (tmp_path / "a@8-255").glob("*.png")) == [
        "00000-stop-as-yield.png",
        "00001-stop-as-yield.png",
    ]
    assert (
        json.loads((tmp_path / "evaluation.json").read_text())["outcomes"][0]["success"] == [True, True] + [False] * 3
    )


def test_an_attack_that_met_no_example_leaves_nothing_of_a_former_run(tmp_path: Path) -> None:
    first = saver(tmp_path)
    first.add("a@8/255", torch.tensor([0]), torch.full((1, 3, 4, 4), 0.6))
    first.close(evaluation(outcome("a", [1, 1, 0, 1, 0])))
    saver(tmp_path).close(evaluation(outcome("a", [0, 0, 0, 1, 0], attacked=[False] * 5)))
    assert not list((tmp_path / "a@8-255").iterdir())


def test_names_that_no_file_system_takes_are_made_plain(tmp_path: Path) -> None:
    classes = ("../../stop/\0[x]", "é" * 300)
    attacks = [outcome("a b", [1, 1, 0, 1, 0]), outcome("a/b", [1, 1, 0, 1, 0]), outcome("a_b", [1, 1, 0, 1, 0])]
    save = saver(tmp_path / "out")
    for attack in attacks:
        save.add(f"{attack.name}@8/255", torch.tensor([0]), torch.full((1, 3, 4, 4), 0.6))
    save.close(evaluation(*attacks, classes=classes))
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
    folders = [each["folder"] for each in json.loads((tmp_path / "out" / "evaluation.json").read_text())["outcomes"]]
    assert len(set(folders)) == 3, "two names that look alike keep their own folders"
    assert all(len(list((tmp_path / "out" / folder).glob("00000-*.png"))) == 1 for folder in folders)


def test_pictures_of_more_channels_are_kept_as_tensors_only(tmp_path: Path) -> None:
    save = Saver(tmp_path, lambda indices: torch.full((len(indices), 5, 4, 4), 0.5))
    save.add("a@8/255", torch.tensor([0]), torch.full((1, 5, 4, 4), 0.5))
    save.close(evaluation(outcome("a", [1, 1, 0, 1, 0])))
    assert [path.name for path in (tmp_path / "a@8-255").iterdir()] == ["examples-0000.safetensors"]


def test_a_full_disk_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    save = saver(tmp_path)
    save.add("a@8/255", torch.tensor([0]), torch.full((1, 3, 4, 4), 0.6))
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="No space left on device"):
        save.close(evaluation(outcome("a", [1, 1, 0, 1, 0])))
    assert not list(tmp_path.rglob("*.part"))
