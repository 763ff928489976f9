"""What ``--save`` writes: facts as JSON, adversarial pictures exactly as safetensors and, for the eye, as PNG.

DIR/evaluation.json                     what was run, the table, and the facts of every example
DIR/ATTACK@EPS/examples-0000.safetensors   ``index``, ``x_adv`` as attacked, in shards
DIR/ATTACK@EPS/00017-stop-as-yield.png     each success, rounded to 8 bits towards the clean picture

Every file is written beside its place and then renamed, so none is ever half written.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from advkit.atomic import write_whole
from advkit.errors import InputError
from advkit.results.outcome import Evaluation

__all__ = ["Saver", "to_8_bits"]

_SHARD = 256
_LONGEST = 80  # letters of a name, of the 255 bytes that file systems allow


def to_8_bits(x_adv: Tensor, x: Tensor) -> Tensor:
    """Grey levels (uint8) rounded towards the clean picture, so that they stay in the ball of a clean 8-bit picture."""
    levels, clean = x_adv.double() * 255, x.double() * 255
    # 1e-4: 8/255 in float32 is not 8 levels to the last bit.
    rounded = torch.where(levels >= clean, (levels + 1e-4).floor(), (levels - 1e-4).ceil())
    return rounded.clamp(0, 255).to(torch.uint8)


class Saver:
    """Takes an evaluation's examples as they come and writes them in shards; ``close`` writes the facts."""

    def __init__(self, folder: Path, pictures: Callable[[list[int]], Tensor]) -> None:
        self.folder, self._pictures = folder, pictures
        self._open: dict[str, list[tuple[Tensor, Tensor]]] = {}
        self._shards: dict[str, int] = {}
        self._folders: dict[str, str] = {}

    def add(self, name: str, index: Tensor, x_adv: Tensor) -> None:
        """Examples of the attack ``name`` (with its radius): places in the data (B,) and pictures (B, C, H, W)."""
        waiting = self._open.setdefault(name, [])
        waiting.append((index.cpu(), x_adv.cpu()))
        if sum(len(rows) for rows, _ in waiting) >= _SHARD:
            self._flush(name)

    def close(self, result: Evaluation) -> None:
        """Write what waits, a picture of each success, and the facts."""
        for name in list(self._open):
            self._flush(name)
        self._draw(result)
        facts = result.to_json() | {"goal": result.goal, "precision": result.precision, "device": result.device}
        facts |= {"facts": result.facts, "labels": result.labels.tolist(), "predictions": result.clean.tolist()}
        facts["outcomes"] = [
            {
                "attack": outcome.name,
                "eps": outcome.threat.eps.exact,
                "settings": outcome.attack,
                "folder": self._place(f"{outcome.name}@{outcome.threat.eps.exact}").name,
                "follows": outcome.follows or None,
                **{
                    fact: getattr(outcome, fact).tolist()
                    for fact in ("attacked", "success", "prediction", "distance", "steps", "forwards", "backwards")
                },
            }
            for outcome in result.outcomes
        ]
        text = json.dumps(facts, indent=1)
        write_whole(self.folder / "evaluation.json", lambda path: path.write_text(text + "\n"))

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
        write_whole(place / f"examples-{number:04d}.safetensors", lambda path: path.write_bytes(save(tensors)))
        self._shards[name] = number + 1

    def _draw(self, result: Evaluation) -> None:
        from safetensors.torch import load_file

        for outcome in result.outcomes:
            title = f"{outcome.name}@{outcome.threat.eps.exact}"
            folder = self._place(title)
            for number in range(self._shards.get(title, 0)):
                shard = load_file(folder / f"examples-{number:04d}.safetensors")
                won = outcome.success[shard["index"]]
                for index, x_adv in zip(shard["index"][won].tolist(), shard["x_adv"][won], strict=True):
                    label, seen = int(result.labels[index]), int(outcome.prediction[index])
                    name = f"{index:05d}-{_plain(result.name_of(label))}-as-{_plain(result.name_of(seen))}.png"
                    levels = to_8_bits(x_adv, self._pictures([index])[0])
                    if len(levels) in (1, 3):
                        write_whole(folder / name, partial(_write, _png(levels)))


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
        for old in (*folder.glob("examples-*.safetensors"), *folder.glob("[0-9]*-as-*.png")):
            old.unlink()
    except OSError as error:
        raise InputError(f"{folder} cannot be written to ({error.strerror}); give another folder.") from error


def _plain(name: str) -> str:
    """A name that any file system takes."""
    return re.sub(r"[^A-Za-z0-9@._+-]+", "_", name.replace("/", "-")).strip("_")[:_LONGEST]
