"""Model files: checkpoints of other code, files that are no weights, files with code, TorchScript and ONNX."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from typing import Any

from fuzzing.case import PLANTED, Answer, Box, Case, Wanted
from fuzzing.stock import NET

__all__ = ["weights"]

_REFUSED, _EITHER = Wanted("refused"), Wanted("either")
State = dict[str, Any]


def _same(answer: Answer) -> str | None:
    """The embedded network is right on all of its eight signs or on seven."""
    right = json.loads(answer.out)["clean"]["accuracy"]
    return None if right >= 0.85 else f"clean accuracy {right}: not the weights of the file"


_RIGHT = Wanted("result", _same)


class _Runs:
    """Writes the planted file when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return open, (PLANTED, "w")


def _under(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


def _checkpoints() -> dict[str, tuple[Callable[[State], object], Wanted]]:
    """What is put into a .pt file, made of the network's own state."""
    import argparse
    import collections
    import pathlib

    import numpy as np
    import torch

    def other(state: State) -> State:
        return {name: torch.zeros_like(value) for name, value in state.items()}

    def one(state: State, change: Callable[[Any], Any]) -> State:
        name = next(name for name in state if name.endswith("weight"))
        return {**state, name: change(state[name])}

    found: dict[str, tuple[Callable[[State], object], Wanted]] = {
        "as it is": (lambda s: s, _RIGHT),
        "OrderedDict": (lambda s: collections.OrderedDict(s), _RIGHT),
        "parameters": (lambda s: {n: torch.nn.Parameter(v) for n, v in s.items()}, _RIGHT),
        "half": (lambda s: {n: v.half() for n, v in s.items()}, _RIGHT),
        "bfloat16": (lambda s: {n: v.bfloat16() for n, v in s.items()}, _RIGHT),
        "double": (lambda s: {n: v.double() for n, v in s.items()}, _RIGHT),
        "behind module.": (lambda s: _under("module.", s), _RIGHT),
        "behind model.": (lambda s: {"state_dict": _under("model.", s)}, _RIGHT),
        "behind net.": (lambda s: _under("net.", s), _RIGHT),
        "behind encoder.": (lambda s: {"state_dict": _under("encoder.", s)}, _RIGHT),
        "behind 1.": (lambda s: _under("1.", s), _EITHER),
        "behind 1. with 0.mean": (lambda s: {"0.mean": torch.zeros(3), "0.std": torch.ones(3), **_under("1.", s)}, _EITHER),
        "behind _orig_mod.": (lambda s: _under("_orig_mod.", s), _RIGHT),
        "behind module._orig_mod.": (lambda s: _under("module._orig_mod.", s), _RIGHT),
        "behind seven modules": (lambda s: _under("module." * 7, s), _EITHER),
        "with criterion": (lambda s: {"state_dict": {**_under("model.", s), "criterion.weight": torch.ones(35)}}, _RIGHT),
        "model and attacker": (lambda s: {"model": {**_under("module.model.", s), **_under("module.attacker.model.", s)}}, _RIGHT),
        "two prefixes, two weights": (lambda s: {**_under("student.", s), **_under("teacher.", other(s))}, _EITHER),
        "state_dict and ema": (lambda s: {"state_dict": other(s), "state_dict_ema": s}, _RIGHT),
        "only ema": (lambda s: {"ema_state_dict": s}, _EITHER),
        "model_ema": (lambda s: {"model_ema": s, "epoch": 3}, _EITHER),
        "with optimizer": (lambda s: {"state_dict": s, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}, "epoch": 2}, _RIGHT),
        "with Namespace": (lambda s: {"state_dict": s, "args": argparse.Namespace(lr=0.1)}, _RIGHT),
        "with a numpy scalar": (lambda s: {"state_dict": s, "best": np.float64(0.5)}, _RIGHT),
        "with a path": (lambda s: {"state_dict": s, "to": pathlib.PurePosixPath("a")}, _EITHER),
        "with code": (lambda s: {"state_dict": s, "more": _Runs()}, _REFUSED),
        "code alone": (lambda s: _Runs(), _REFUSED),
        "a whole module": (lambda s: torch.nn.Linear(3, 3), _REFUSED),
        "a tensor": (lambda s: torch.ones(3), _REFUSED),
        "a list": (lambda s: list(s.values()), _REFUSED),
        "None": (lambda s: None, _REFUSED),
        "a number": (lambda s: 3, _REFUSED),
        "no tensors": (lambda s: {}, _REFUSED),
        "numbers for names": (lambda s: dict(enumerate(s.values())), _REFUSED),
        "one missing": (lambda s: dict([*s.items()][1:]), _REFUSED),
        "one more": (lambda s: {**s, "more.weight": torch.ones(2)}, _EITHER),
        "transposed": (lambda s: one(s, lambda v: v.transpose(0, 1).contiguous()), _REFUSED),
        "reshaped": (lambda s: one(s, lambda v: v.flatten()), _REFUSED),
        "of no size": (lambda s: one(s, lambda v: v[:0]), _REFUSED),
        "whole numbers": (lambda s: {n: v.long() for n, v in s.items()}, _REFUSED),
        "complex": (lambda s: {n: v.to(torch.complex64) for n, v in s.items()}, _REFUSED),
        "bools": (lambda s: {n: v > 0 for n, v in s.items()}, _REFUSED),
        "sparse": (lambda s: {n: v.to_sparse() for n, v in s.items()}, _EITHER),
        "expanded": (lambda s: one(s, lambda v: v.mean().expand(v.shape)), _EITHER),
        "expanded to 10^12": (lambda s: one(s, lambda v: torch.zeros(1).expand(10**6, 10**6)), _REFUSED),
        "quantised": (lambda s: {n: torch.quantize_per_tensor(v.float(), 0.1, 0, torch.qint8) for n, v in s.items()}, _EITHER),
        "on meta": (lambda s: {n: v.to("meta") for n, v in s.items()}, _REFUSED),
        "NaN": (lambda s: one(s, lambda v: v * float("nan")), _REFUSED),
        "inf": (lambda s: one(s, lambda v: v / 0), _REFUSED),
        "a name with NUL": (lambda s: {**s, "a\0b": torch.ones(1)}, _EITHER),
        "a name of 10^6": (lambda s: {**s, "a" * 10**6: torch.ones(1)}, _EITHER),
        "names that are not text": (lambda s: {**s, 3: torch.ones(1), None: 2}, _EITHER),
        "10,000 layers deep": (lambda s: _nested({"state_dict": s}, 300), _EITHER),
        "conjugated": (lambda s: {n: torch.complex(v, v).conj().imag for n, v in s.items()}, _EITHER),
        "a view of a larger one": (lambda s: {n: torch.stack([v, v])[0] for n, v in s.items()}, _RIGHT),
        "not contiguous": (lambda s: {n: torch.stack([v, v], -1)[..., 0] for n, v in s.items()}, _RIGHT),
        "with a subclass": (lambda s: {n: torch.nn.Buffer(v) if hasattr(torch.nn, "Buffer") else v for n, v in s.items()}, _EITHER),
    }  # fmt: skip
    return found


def _nested(value: object, depth: int) -> object:
    for _ in range(depth):
        value = {"model": value}
    return value


def _state(box: Box) -> State:
    import torch

    loaded: State = torch.load(box.stock / "state.pt", weights_only=True)
    return loaded


_PLAIN = ("--normalize", "none")


def _words(option: str, path: object, *normalize: str) -> list[object]:
    model = ("--model", path) if option == "--model" else (*NET[:2], "--weights", path)
    return ["attack", "--quiet", *model, *normalize, "--attack", "fgsm", "--samples", 8, "--format", "json"]


def _normalised(words: list[object]) -> list[object]:
    """With the normalisation that the embedded network was trained with."""
    import advkit

    model = advkit.load_model("lenet", data=advkit.load_data("signs", samples=4))
    numbers = [",".join(map(str, part.flatten().tolist())) for part in (model.mean, model.std)]
    if all(numbers):
        words[words.index("none")] = ":".join(numbers)
    return words


def weights() -> Iterator[Case]:
    """Every odd model file, on the command line and some in Python."""
    for given, (make, wanted) in _checkpoints().items():

        def saved(box: Box, make: Callable[[State], object] = make) -> object:
            import torch

            torch.save(make(_state(box)), box.at / "w.pt")
            return box.at / "w.pt"

        def words(box: Box, saved: Callable[[Box], object] = saved) -> list[object]:
            return _normalised(_words("--weights", saved(box), *_PLAIN))

        yield Case("weights", "attack --weights (pt)", given, wanted, words, needs=("weights",))

        def call(box: Box, saved: Callable[[Box], object] = saved) -> Callable[[], object]:
            path = saved(box)

            def load() -> object:
                import advkit

                return advkit.load_model("lenet", weights=str(path), data=advkit.load_data("signs", samples=2))

            return load

        alone = Wanted("result") if wanted is _RIGHT else wanted
        yield Case("weights", "advkit.load_model --(weights)", given, alone, call=call, needs=("weights",))
    for place, given, make_file, wanted in _files():
        option = "--weights" if place.endswith(".safetensors") else "--model"
        options = ("--weights", "--model") if place.endswith(".safetensors") else ("--model",)
        for option in options:

            def build(
                box: Box, make_file: Callable[[Box], bytes] = make_file, place: str = place, option: str = option
            ) -> list[object]:
                plain = () if place == "m.safetensors" else _PLAIN  # whose own normalisation is what is tried
                return _words(option, box.write(place, make_file(box)), *plain)

            yield Case("weights", f"attack {option} (file)", f"{place}: {given}", wanted, build, needs=("weights",))
    yield from _scripts()


def _safetensors(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _with_metadata(**metadata: str) -> Callable[[Box], bytes]:
    def make(box: Box) -> bytes:
        from safetensors.torch import save

        return save(_state(box), {"backbone": "lenet", **metadata})

    return make


def _files() -> Iterator[tuple[str, str, Callable[[Box], bytes], Wanted]]:
    """Files that are no weights: name, what, content."""
    tensor = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    for given, content in {
        "no bytes": b"", "text": b"no weights at all", "zeros": b"\0" * 100, "a header of 2^63": _safetensors({}, length=2**63 - 1),
        "a header past the end": _safetensors({}, length=1000), "a header that is no JSON": _safetensors(b"{{{{{{{{"),
        "a deep header": _safetensors(b"[" * 100_000), "a list": _safetensors([]), "null": _safetensors(None),
        "offsets past the end": _safetensors({"a": {**tensor, "data_offsets": [0, 2**40]}}, b"\0" * 8),
        "offsets backwards": _safetensors({"a": {**tensor, "data_offsets": [8, 0]}}, b"\0" * 8),
        "a shape of 10^18": _safetensors({"a": {**tensor, "shape": [10**9, 10**9]}}, b"\0" * 8),
        "a negative shape": _safetensors({"a": {**tensor, "shape": [-2]}}, b"\0" * 8),
        "an unknown type": _safetensors({"a": {**tensor, "dtype": "Q7"}}, b"\0" * 8), "an FP8 tensor": _safetensors({"a": {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]}}, b"\0" * 8),
        "metadata that is no text": _safetensors({"__metadata__": {"backbone": 3}, "a": tensor}, b"\0" * 8),
        "no tensors": _safetensors({}),
    }.items():  # fmt: skip
        yield "w.safetensors", given, lambda _, content=content: content, _REFUSED
    for given, metadata in {
        "code as backbone": {"backbone": "os:system:touch pwned"}, "a file as backbone": {"backbone": "planted.py:net"}, "no such backbone": {"backbone": "nothing"},
        "a path as backbone": {"backbone": "../../x"}, "classes null": {"classes": "null"}, "classes a number": {"classes": "7"}, "classes deep": {"classes": "[" * 100_000},
        "classes of 10,000 digits": {"classes": "9" * 10_000}, "size -1": {"size": "-1"}, "size 10^20": {"size": "1" + "0" * 20}, "size text": {"size": '"big"'}, "channels 0": {"channels": "0"},
        "channels 10^9": {"channels": "1000000000"}, "mean text": {"mean": '["a", "b", "c"]'}, "mean NaN": {"mean": "[NaN, NaN, NaN]"}, "std 0": {"std": "[0, 0, 0]"}, "std inf": {"std": "[Infinity, 1, 1]"},
        "mean of two": {"mean": "[0.5, 0.5]"}, "settings list": {"settings": "[1]"}, "settings unknown": {"settings": '{"nothing": 1}'}, "settings code": {"settings": '{"model": "os:system:touch pwned"}'},
        "denoiser": {"denoiser": "dncnn"}, "classes that are no text": {"classes": "[1, null, {}]"},
    }.items():  # fmt: skip
        wanted = (
            _EITHER
            if given
            in ("size -1", "size 10^20", "denoiser", "classes null", "classes that are no text", "settings code")
            else _REFUSED
        )
        yield "m.safetensors", given, _with_metadata(**metadata), wanted
    for suffix in ("onnx", "ts", "torchscript", "pt", "pth", "pt2", "bin", "h5", "pkl", "ckpt", "tflite"):
        yield f"w.{suffix}", "text", lambda _: b"no model at all", _REFUSED
        yield f"w.{suffix}", "no bytes", lambda _: b"", _REFUSED
        yield f"w.{suffix}", "a pickle with code", lambda _: b"cbuiltins\nopen\n(S'pwned'\nS'w'\ntR.", _REFUSED
    yield "w.onnx", "a protobuf of another kind", lambda _: b"\x08\x07\x12\x04test" * 50, _REFUSED
    yield "w.ts", "half of it", lambda box: (box.stock / "net.ts").read_bytes()[:5000], _REFUSED
    yield "w.ts", "as it is", lambda box: (box.stock / "net.ts").read_bytes(), _EITHER


def _scripts() -> Iterator[Case]:
    """TorchScript that writes a file, in several ways of naming it."""
    for name in ("w.ts", "w.pt"):

        def build(box: Box, name: str = name) -> list[object]:
            import torch
            from torch import Tensor, nn

            class Writes(nn.Module):
                def __init__(self) -> None:
                    super().__init__()
                    self.linear = nn.Linear(3072, 35)

                def forward(self, x: Tensor) -> Tensor:
                    torch.save([x], "pwned")
                    return self.linear(x.flatten(1))

            try:
                torch.jit.script(Writes()).save(str(box.at / name))
            except Exception:  # this torch compiles no such call; from_file opens and makes a file
                torch.jit.script(_from_file()).save(str(box.at / name))
            return ["attack", "--quiet", "--model", box.at / name, "--attack", "fgsm", "--samples", 2]

        yield Case("weights", "attack --model (TorchScript)", f"{name} that writes a file", _REFUSED, build)


def _from_file() -> Any:
    import torch
    from torch import Tensor, nn

    class Maps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3072, 35)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x.flatten(1)) + torch.from_file("pwned", True, 35)

    return Maps()
