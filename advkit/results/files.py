"""What ``--save`` writes: facts as JSON, adversarial pictures exactly as safetensors, and as PNG.

DIR/evaluation.json                     what was run, the table, the facts of every example, every other file by SHA-256
DIR/ATTACK@EPS/examples-0000.safetensors   ``index``, ``x_adv`` as attacked, in shards
DIR/ATTACK@EPS/00017-stop-as-yield.png     each success, rounded to 8 bits towards the clean picture, for the eye

With ``--as png`` each adversarial picture is a PNG, whether it succeeds or not, in the levels that the engine chose inside
the ball; the clean pictures, which these were measured from, stand beside them:

DIR/clean/00017-stop.png

Every file is written beside its place and then renamed, so none is ever half written.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from advkit.atomic import write_whole
from advkit.errors import DataError, InputError, UnknownName
from advkit.hashes import sha256
from advkit.image_file import UnreadableImage, read_image
from advkit.results.facts import FACTS, facts_json
from advkit.results.outcome import Evaluation, Outcome
from advkit.seal import sealed_json

__all__ = ["CLEAN", "Form", "Saver", "checked_form", "read_png", "title_of", "to_8_bits"]

Form = Literal["safetensors", "png"]
"""How adversarial pictures are kept: exactly, for ever; or also in the 8 bits of a picture file, judged as they are there."""

CLEAN = "clean"
"""The folder of the clean pictures."""

_SHARD = 256
_LONGEST = 80  # letters of a name, of the 255 bytes that file systems allow


def to_8_bits(x_adv: Tensor, x: Tensor) -> Tensor:
    """Grey levels (uint8) rounded towards the clean picture, so that they stay in the ball of a clean 8-bit picture."""
    levels, clean = x_adv.double() * 255, x.double() * 255
    # 1e-4: 8/255 in float32 is not 8 levels to the last bit.
    rounded = torch.where(levels >= clean, (levels + 1e-4).floor(), (levels - 1e-4).ceil())
    return rounded.clamp(0, 255).to(torch.uint8)


def checked_form(name: str) -> Form:
    """A form by name. Raises UnknownName for any other."""
    forms: tuple[Form, ...] = ("safetensors", "png")
    for form in forms:
        if form == name:
            return form
    raise UnknownName("form", name, forms)


def title_of(outcome: Outcome) -> str:
    """An attack at its radius: ``pgd@8/255``."""
    return f"{outcome.name}@{outcome.threat.eps.exact}"


def read_png(path: Path) -> Tensor:
    """The grey levels (1 or 3, H, W) of a PNG file that is grey or RGB. Raises DataError where it is none."""
    try:
        picture = read_image(path, formats=["PNG"])
    except UnreadableImage as error:
        told = "is missing" if not path.exists() else f"cannot be read as a PNG file ({error.reason})"
        raise DataError(f"{path} {told}.") from None
    if picture.mode not in ("L", "RGB"):
        raise DataError(f"{path} is a picture of mode {picture.mode}; it must be grey (L) or RGB, in 8 bits.")
    levels = torch.from_numpy(np.array(picture))
    return levels[None] if levels.ndim == 2 else levels.permute(2, 0, 1).contiguous()


class Saver:
    """Takes an evaluation's examples as they come and writes them in shards; ``close`` writes the facts.

    In the form ``png`` whoever judges the files chooses their levels, and writes them by ``put_picture``.
    """

    def __init__(self, folder: Path, pictures: Callable[[list[int]], Tensor], form: Form = "safetensors") -> None:
        self.folder, self.form, self._pictures = folder, form, pictures
        self._open: dict[str, list[tuple[Tensor, Tensor]]] = {}
        self._shards: dict[str, int] = {}
        self._folders: dict[str, str] = {}
        self._digests: dict[str, str] = {}

    def add(self, name: str, index: Tensor, x_adv: Tensor) -> None:
        """Examples of the attack ``name`` (with its radius): places in the data (B,) and pictures (B, C, H, W)."""
        waiting = self._open.setdefault(name, [])
        waiting.append((index.cpu(), x_adv.cpu()))
        if sum(len(rows) for rows, _ in waiting) >= _SHARD:
            self._flush(name)

    def examples(self, name: str) -> Iterator[tuple[Tensor, Tensor]]:
        """What was added of an attack, shard by shard: places (B,) and pictures."""
        from safetensors.torch import load_file

        self._flush(name)
        for number in range(self._shards.get(name, 0)):
            shard = load_file(self._place(name) / f"examples-{number:04d}.safetensors")
            yield shard["index"], shard["x_adv"]

    def of(self, name: str) -> Path:
        """The folder of an attack's pictures."""
        return self.folder / CLEAN if name == CLEAN else self._place(name)

    def put_picture(self, name: str, index: int, words: Sequence[str], levels: Tensor) -> Path:
        """Write a picture (1 or 3, H, W) of grey levels as PNG among those of the attack ``name``; says where it stands."""
        folder = self.of(name)
        if name == CLEAN and name not in self._shards:
            _clear(folder)
            self._shards[name] = 0
        path = folder / f"{index:05d}-{'-as-'.join(_plain(word) for word in words)}.png"
        self._put(path, _png(levels))
        return path

    def close(self, result: Evaluation, run: Mapping[str, object] | None = None) -> None:
        """Write what waits, a picture of each success, and the facts; ``run`` says how the same is run again."""
        for name in list(self._open):
            self._flush(name)
        if self.form != "png":
            self._draw(result)
        folders = [self._place(title_of(outcome)).name for outcome in result.outcomes]
        for outcome in result.outcomes:
            if title_of(outcome) not in self._shards:  # it met no example, and a former run's may stand there
                _clear(self._place(title_of(outcome)))
        facts = result.to_json() | facts_json(result, folders) | {"as": self.form, "run": dict(run or {})}
        facts["files"] = dict(sorted(self._digests.items()))
        content = sealed_json(facts)
        write_whole(self.folder / FACTS, lambda path: path.write_bytes(content))

    def _place(self, name: str) -> Path:
        """The folder of an attack: its name as far as file systems take it, a number behind where two become one."""
        if name not in self._folders:
            plain, number = _plain(name), 1
            while plain in self._folders.values():
                number += 1
                plain = f"{_plain(name)}-{number}"
            self._folders[name] = plain
        return self.folder / self._folders[name]

    def _flush(self, name: str) -> None:
        from safetensors.torch import save

        waiting = self._open.pop(name, [])
        if not waiting:
            return
        tensors = {
            "index": torch.cat([index for index, _ in waiting]),
            "x_adv": torch.cat([x_adv for _, x_adv in waiting]).contiguous(),
        }
        number = self._shards.get(name, 0)
        place = self._place(name)
        if number == 0:
            _clear(place)
        self._put(place / f"examples-{number:04d}.safetensors", save(tensors))
        self._shards[name] = number + 1

    def _put(self, path: Path, content: bytes) -> None:
        write_whole(path, partial(_write, content))
        self._digests[path.relative_to(self.folder).as_posix()] = sha256(content)

    def _draw(self, result: Evaluation) -> None:
        for outcome in result.outcomes:
            title = title_of(outcome)
            for indices, x_adv in self.examples(title):
                won = outcome.success[indices]
                for index, picture in zip(indices[won].tolist(), x_adv[won], strict=True):
                    levels = to_8_bits(picture, self._pictures([index])[0])
                    if len(levels) in (1, 3):
                        seen = (int(result.labels[index]), int(outcome.prediction[index]))
                        self.put_picture(title, index, [result.name_of(label) for label in seen], levels)


def _png(levels: Tensor) -> bytes:
    """A picture (1 or 3, H, W) of grey levels as a PNG file."""
    out = io.BytesIO()
    pixels = levels.permute(1, 2, 0).contiguous().numpy()
    Image.fromarray(pixels[:, :, 0] if len(levels) == 1 else pixels).save(out, format="PNG")
    return out.getvalue()


def _write(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def _clear(folder: Path) -> None:
    """Remove what a former run wrote here, or its examples would stand among the new ones."""
    try:
        for old in (*folder.glob("examples-*.safetensors"), *folder.glob("[0-9]*-*.png")):
            old.unlink()
    except OSError as error:
        raise InputError(f"{folder} cannot be written to ({error.strerror}); give another folder.") from error


def _plain(name: str) -> str:
    """A name that any file system takes."""
    return re.sub(r"[^A-Za-z0-9@._+-]+", "_", name.replace("/", "-")).strip("_")[:_LONGEST]
