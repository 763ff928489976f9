"""What a network is made of: parameters, multiply-adds, memory, receptive field, the size of every layer's output."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from advkit.core.modes import borrowed, reseeded
from advkit.errors import ModelError, first_line

__all__ = ["Description", "Layer", "describe"]

_GLOBAL = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


@dataclass(frozen=True)
class Layer:
    """One call of one layer, for one picture.

    ``receptive_field`` is the side, in pixels, of the square that one output sees; None once the picture is flattened.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    multiply_adds: int
    receptive_field: int | None


@dataclass(frozen=True)
class Description:
    """A network in numbers, for one picture; a layer that is called twice is listed twice and its parameters once."""

    layers: tuple[Layer, ...]
    parameters: int
    multiply_adds: int  # of convolutions and dense layers
    activation_bytes: int  # what the layers give, as float32: what a gradient pass keeps, at most

    @property
    def receptive_field(self) -> int | None:
        """The widest square of pixels that an output of a convolution or pooling sees, along any branch."""
        fields = [layer.receptive_field for layer in self.layers if layer.receptive_field is not None]
        return max(fields, default=None)


def describe(model: nn.Module, channels: int, height: int, width: int) -> Description:
    """Measure ``model`` by one pass over a black picture; it is left as it was."""
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"the model was given as {type(model).__name__}; give a torch module, or what load_model returns."
        )
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise ModelError("the layers of a TorchScript model cannot be watched; describe the network it was made from.")
    layers: list[Layer] = []
    fields = _Fields()
    counted: set[int] = set()

    def watch(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, Tensor):
                own = [p for p in module.parameters(recurse=False) if id(p) not in counted]
                counted.update(map(id, own))
                spatial = output.ndim == 4 and not isinstance(module, _GLOBAL)
                layers.append(
                    Layer(
                        name,
                        type(module).__name__,
                        tuple(output.shape[1:]),
                        sum(p.numel() for p in own),
                        _multiply_adds(module, output),
                        fields.side(output) if spatial else None,
                    )
                )

        return hook

    leaves = [(name, module) for name, module in model.named_modules() if not list(module.children())]
    first = next(model.parameters(), None)
    picture = torch.zeros(1, channels, height, width, device=None if first is None else first.device)
    hooks: list[RemovableHandle] = []
    try:
        hooks += [module.register_forward_hook(watch(name)) for name, module in leaves]
        with _evaluating(model), torch.no_grad(), fields, reseeded(0, picture.device):
            model(picture)
    except RuntimeError as error:
        reason = first_line(error)
        raise ModelError(
            f"{type(model).__name__} cannot take a picture of {channels} x {height} x {width} ({reason}); "
            "give the channels and the size that it was built for."
        ) from error
    finally:
        for handle in hooks:
            handle.remove()
    return Description(
        tuple(layers),
        sum(p.numel() for p in model.parameters()),
        sum(layer.multiply_adds for layer in layers),
        4 * sum(_size(layer.output) for layer in layers),
    )


def _size(shape: Sequence[int]) -> int:
    return int(torch.Size(shape).numel())


def _multiply_adds(module: nn.Module, output: Tensor) -> int:
    if isinstance(module, nn.Conv2d):
        return output[0].numel() * module.weight[0].numel()
    return output[0].numel() * module.in_features if isinstance(module, nn.Linear) else 0


Pair = tuple[int, int]


@dataclass(frozen=True)
class _Field:
    """What one entry sees: sides of its rectangle of pixels, and pixels from one entry to the next (height, width)."""

    sides: Pair = (1, 1)
    jumps: Pair = (1, 1)

    def slid(self, reach: Pair, stride: Pair) -> _Field:
        """After a window that spans ``reach`` entries is slid in steps of ``stride``."""
        (tall, wide), (down, right) = self.sides, self.jumps
        sides = tall + (reach[0] - 1) * down, wide + (reach[1] - 1) * right
        return _Field(sides, (down * stride[0], right * stride[1]))

    def joined(self, other: _Field) -> _Field:
        """The larger of the two, side by side."""
        a, b, c, d = self.sides, other.sides, self.jumps, other.jumps
        return _Field((max(a[0], b[0]), max(a[1], b[1])), (max(c[0], d[0]), max(c[1], d[1])))


class _Fields(TorchFunctionMode):
    """Follows receptive fields through every torch function that runs."""

    def __init__(self) -> None:
        super().__init__()
        self._of: dict[int, _Field] = {}
        self._kept: list[Tensor] = []  # an id is a tensor's own only while the tensor lives

    def side(self, tensor: Tensor) -> int:
        """Longer side of what one entry of ``tensor`` sees."""
        return max(self._of.get(id(tensor), _Field()).sides)

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run ``func``; its outputs see what its inputs see, and more where it slides a window."""
        out = func(*args, **(kwargs or {}))
        seen = [self._of[id(tensor)] for tensor in _tensors(args) if id(tensor) in self._of]
        field = functools.reduce(_Field.joined, seen, _Field()).slid(*_window(func, args, kwargs or {}))
        for tensor in _tensors([out]):
            self._of[id(tensor)] = field
            self._kept.append(tensor)
        return out


def _tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _window(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Pair, Pair]:
    """(entries of its input that one output of ``func`` spans, stride)."""
    if func in (F.conv2d, torch.conv2d):
        tall, wide = args[1].shape[2:]
        stride, dilation = (
            _pair(_argument(args, kwargs, place, name, 1)) for place, name in ((3, "stride"), (5, "dilation"))
        )
        return (dilation[0] * (tall - 1) + 1, dilation[1] * (wide - 1) + 1), stride
    if func in (F.max_pool2d, torch.max_pool2d, F.avg_pool2d):
        reach = _pair(_argument(args, kwargs, 1, "kernel_size", 1))
        return reach, _pair(_argument(args, kwargs, 2, "stride", None) or reach)
    if func is Tensor.__getitem__ and isinstance(args[1], tuple) and len(args[1]) == 4:
        down, right = ((index.step or 1) if isinstance(index, slice) else 1 for index in args[1][2:])
        return (1, 1), (down, right)
    return (1, 1), (1, 1)


def _argument(args: Sequence[Any], kwargs: Mapping[str, Any], place: int, name: str, default: Any) -> Any:
    return args[place] if len(args) > place else kwargs.get(name, default)


def _pair(value: int | Sequence[int]) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Borrowed, but for a model on the meta device, whose buffers cannot be compared and hold nothing."""
    if not any(buffer.is_meta for buffer in model.buffers()):
        with borrowed(model):
            yield
        return
    modes = [(module, module.training) for module in model.modules() if hasattr(module, "training")]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
