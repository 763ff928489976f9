"""Files that many inputs begin from: data, weights, a store, a saved run, a sticker; each made once, when it is first needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from fuzzing.case import Box, Case, Wanted
from fuzzing.run import try_one

__all__ = ["NET", "QUICK", "STOCK", "made"]

NET = ("--model", "lenet", "--quiet")
QUICK = (*NET, "--samples", "4")


def _pictures(box: Box) -> Callable[[], object]:
    """Eight signs as arrays, as a class folder and as a PNG file."""
    import numpy as np
    from PIL import Image

    import advkit

    def make() -> None:
        data = advkit.load_data("signs", samples=8)
        x, y = data.tensors()
        pixels = (x.permute(0, 2, 3, 1) * 255).round().byte().numpy()
        np.savez(box.at / "data.npz", x=pixels, y=y.numpy(), classes=np.array(data.classes))
        for number, (one, label) in enumerate(zip(pixels, y.tolist(), strict=True)):
            place = box.at / "folder" / f"{label:02d}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(one).save(place / f"{number}.png")
        Image.fromarray(pixels[0]).save(box.at / "sign.png")

    return make


def _weights(box: Box) -> Callable[[], object]:
    """A state dict, the same as safetensors, and TorchScript of the network."""
    import torch
    from safetensors.torch import save_file

    import advkit

    def make() -> None:
        model = advkit.load_model("lenet", data=advkit.load_data("signs", samples=4))
        state = {name: value.clone() for name, value in model.net.state_dict().items()}
        torch.save(state, box.at / "state.pt")
        save_file(state, box.at / "state.safetensors")
        torch.jit.trace(model.eval(), torch.rand(2, 3, 32, 32)).save(str(box.at / "net.ts"))

    return make


_CALLS: dict[str, Callable[[Box], Callable[[], object]]] = {"pictures": _pictures, "weights": _weights}
_WORDS: dict[str, tuple[object, ...]] = {
    "saved": (
        "attack",
        *QUICK,
        "--attack",
        "pgd",
        "--steps",
        2,
        "--eps",
        "2/255,8/255",
        "--save",
        "saved",
        "--as",
        "png",
    ),
    "store": (
        *("sweep", *QUICK, "--attack", "fgsm", "--attack", "pgd", "--steps", 2, "--eps", "2/255,8/255"),
        *("--shard", 2, "--pictures", 2, "--out", "store"),
    ),
    "sticker": ("sticker", *NET, "--steps", 2, "--views", 2, "--test-views", 4, "--out", "sticker"),
    "certified": ("certify", *NET, "--samples", 2, "--n", 20, "--n0", 10, "--out", "certified"),
    "trained": (
        *("train", *NET, "--samples", 32, "--epochs", 1, "--batch-size", 16, "--validation", 8),
        *("--held-out", "data.npz", "--data", "data.npz", "--out", "trained.safetensors"),
    ),
    "denoiser": (
        *("train-denoiser", *QUICK, "--epochs", 1, "--denoiser", "dncnn", "--denoiser-set", "width=2"),
        *("--held-out-samples", 2, "--denoiser-set", "depth=2", "--out", "denoiser.safetensors"),
    ),
}
STOCK = (*_CALLS, *_WORDS)


def made(names: Iterable[str], folder: Path, stock: Path) -> None:
    """Make what is not there yet. Raises RuntimeError where advkit does not make it."""
    stock.mkdir(parents=True, exist_ok=True)
    wanted = set(names) | ({"pictures"} if "trained" in names else set())
    for name in (name for name in STOCK if name in wanted):
        if (stock / f".{name}").exists():
            continue
        here = Box(stock, stock)
        if name in _CALLS:
            case = Case("stock", name, "", Wanted("result"), call=lambda _, make=_CALLS[name], here=here: make(here))
        else:
            case = Case("stock", name, "", Wanted("result"), words=lambda _, name=name: _in_stock(stock, _WORDS[name]))
        tried = try_one(case, folder / f"stock-{name}", stock)
        if tried.ending != "result":
            raise RuntimeError(f"{name} could not be made: {tried.told}")
        (stock / f".{name}").touch()


def _in_stock(stock: Path, words: tuple[object, ...]) -> tuple[object, ...]:
    """Words for the stock's folder; the process works there."""
    import os

    os.chdir(stock)
    return words
