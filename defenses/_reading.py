"""Reading a network's forward pass, by torch.fx, as steps whose bounds are known."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.grad import conv2d_input

from advkit.defenses._bounds import Activation, Affine, Cat, Map, MaxPool, Network, Operation, Step, Sum
from advkit.errors import ModelError, first_line

__all__ = ["batch_statistics", "read_network"]


def read_network(
    model: nn.Module, x: Tensor, statistics: Mapping[nn.Module, tuple[Tensor, Tensor]] | None = None
) -> Network:
    """The steps of ``model`` on pictures like x (B, C, H, W). Raises ModelError for a layer whose bounds are not known.

    Dropout is left out. BatchNorm takes its running mean and variance, or those of ``statistics``.
    """
    reader = _Reader(model, x, statistics or {})
    return reader.read()


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[dict[nn.Module, tuple[Tensor, Tensor]]]:
    """Collects mean and variance of what each BatchNorm in training mode is given meanwhile, with their gradients."""
    found: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def note(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        if module.training:
            value = given[0].float() if given[0].dtype in (torch.bfloat16, torch.float16) else given[0]
            axes = [axis for axis in range(value.ndim) if axis != 1]
            moments = getattr(module, "moments", None)  # of all processes' examples, where several train together
            found[module] = (value.mean(axes), value.var(axes, correction=0)) if moments is None else moments(value)[:2]

    handles = [m.register_forward_pre_hook(note) for m in model.modules() if isinstance(m, _NORMS)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_RISING: tuple[type[nn.Module], ...] = (
    nn.CELU,
    nn.ELU,
    nn.Hardsigmoid,
    nn.Hardtanh,  # ReLU6 is one
    nn.LogSigmoid,
    nn.SELU,
    nn.Sigmoid,
    nn.Softplus,
    nn.Softsign,
    nn.Tanh,
)
_VALLEYS: dict[type[nn.Module], float] = {  # where they are lowest
    nn.GELU: -0.7517915246935645,
    nn.SiLU: -1.2784645427610738,
    nn.Hardswish: -1.5,
}
_RISING_FUNCTIONS = {F.elu, F.hardtanh, F.relu6, F.sigmoid, F.softplus, F.tanh, torch.sigmoid, torch.tanh}
_RELUS = {F.relu, torch.relu, F.relu_, torch.relu_}
_KEEPING = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, nn.Identity)
_POOLING = (nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.ZeroPad2d)  # weights of 0 and above
_POOLING_FUNCTIONS = {F.avg_pool2d, F.adaptive_avg_pool2d, torch.mean}
_RESHAPING = {"flatten", "view", "reshape", "squeeze"}


@dataclass(frozen=True)
class _Value:
    """A value of the network while it is read: its number, and the value for two black pictures, for its shape."""

    number: int
    sample: Tensor


class _Reader:
    def __init__(self, model: nn.Module, x: Tensor, statistics: Mapping[nn.Module, tuple[Tensor, Tensor]]) -> None:
        self.model, self.statistics = model, statistics
        self.steps: list[Step] = []
        self.like = x.detach()
        self.name = ""

    def read(self) -> Network:
        nodes, constants = _trace(self.model)
        # Two rows: what mixes the examples of a batch, or counts them, is noticed.
        picture = _Value(0, torch.zeros_like(self.like[:1]).repeat(2, *(1,) * (self.like.ndim - 1)))
        found: dict[fx.Node, Any] = {}
        last: Any = picture
        for node in nodes:
            self.name = node.target if isinstance(node.target, str) else node.name
            args, kwargs = fx.map_arg((node.args, node.kwargs), found.__getitem__)
            if node.op == "placeholder":
                found[node] = picture if not found else inspect.Parameter.empty
            elif node.op == "get_attr":
                found[node] = constants[self.name]
            elif node.op == "output":
                last = args[0]
            elif node.op == "call_module":
                found[node] = self.module(self.model.get_submodule(self.name), args, kwargs)
            else:
                found[node] = self.function(node.target, args, kwargs)
        if not self.steps or not isinstance(last, _Value) or last.number != len(self.steps) or last.sample.ndim != 2:
            raise ModelError(
                f"bounds need a network whose last layer gives logits (B, K); {self.owner()} ends otherwise."
            )
        return Network(tuple(self.steps), tuple(self.like.shape[1:]))

    def module(self, layer: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Value:
        x = args[0] if len(args) == 1 and not kwargs else None
        if not isinstance(x, _Value):
            raise self.unknown(type(layer).__name__)
        if isinstance(layer, _KEEPING):
            return x
        if isinstance(layer, nn.Linear) and x.sample.ndim == 2:
            return self.step(_dense(layer.weight, layer.bias), x)
        if isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros":
            return self.step(_convolution(layer), x)
        if isinstance(layer, _NORMS):
            return self.step(self.norm(layer, x), x)
        if isinstance(layer, nn.ReLU):
            return self.step(Activation(torch.relu, leak=0.0), x)
        if isinstance(layer, nn.LeakyReLU) and 0 <= layer.negative_slope <= 1:
            slope = layer.negative_slope
            return self.step(Activation(lambda t: F.leaky_relu(t, slope), leak=slope), x)
        if isinstance(layer, _RISING):
            return self.step(Activation(_out_of_place(layer)), x)
        for kind, lowest in _VALLEYS.items():
            if isinstance(layer, kind) and getattr(layer, "approximate", "none") == "none":
                return self.step(Activation(_out_of_place(layer), lowest), x)
        if isinstance(layer, nn.MaxPool2d) and not layer.return_indices:
            return self.step(
                _max_pool(layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode), x
            )
        if isinstance(layer, _POOLING):
            return self.linear(layer, x)
        raise self.unknown(type(layer).__name__)

    def function(self, target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        word = target if isinstance(target, str) else getattr(target, "__name__", str(target))
        every = [*args, *kwargs.values()]
        if not any(
            isinstance(value, _Value)
            for part in every
            for value in (part if isinstance(part, list | tuple) else [part])
        ):
            return getattr(args[0], target)(*args[1:], **kwargs) if isinstance(target, str) else target(*args, **kwargs)
        x = args[0] if args else None
        if word in ("add", "iadd", "sub", "isub", "add_", "mul", "imul", "truediv", "div", "neg") and not kwargs:
            return self.arithmetic(word.strip("_").removeprefix("i"), *args)
        if word in ("cat", "concat"):
            dim = kwargs.get("dim", args[1] if len(args) > 1 else 0)
            if all(isinstance(value, _Value) for value in args[0]) and dim % args[0][0].sample.ndim:
                return self.step(Cat(dim % args[0][0].sample.ndim), *args[0])
            raise self.unknown(word)
        if not isinstance(x, _Value) or any(isinstance(value, _Value) for value in [*args[1:], *kwargs.values()]):
            raise self.unknown(word)
        if word == "getattr" and args[1] in ("shape", "dtype", "device", "ndim"):
            return getattr(x.sample, args[1])
        if word in ("size", "dim"):
            return getattr(x.sample, word)(*args[1:], **kwargs)
        if target in _RELUS or word in ("relu", "relu_"):
            return self.step(Activation(torch.relu, leak=0.0), x)
        if target in _RISING_FUNCTIONS or word in ("sigmoid", "tanh"):
            given, named = args[1:], {key: value for key, value in kwargs.items() if key != "inplace"}
            rising = getattr(torch, word) if isinstance(target, str) else target
            return self.step(Activation(lambda t: rising(t, *given, **named)), x)
        if target in (F.max_pool2d, torch.max_pool2d) and len(args) <= 6 and not kwargs.get("return_indices"):
            return self.step(_max_pool(*args[1:], **kwargs), x)
        if word in ("dropout", "dropout2d") or word in ("contiguous", "clone"):
            return x
        if word in _RESHAPING:
            call = getattr(torch.Tensor, word)
            shape = call(x.sample, *args[1:], **kwargs).shape
            return self.linear(lambda t: t.reshape(len(t), *shape[1:]), x, shape)
        if word == "mean" or target in _POOLING_FUNCTIONS:
            axes = kwargs.get("dim", args[1] if len(args) > 1 else 0)
            if word == "mean" and 0 in [
                axis % x.sample.ndim for axis in (axes if isinstance(axes, list | tuple) else [axes])
            ]:
                raise self.unknown("a mean over the batch")
            call = getattr(torch, word) if isinstance(target, str) else target
            return self.linear(lambda t: call(t, *args[1:], **kwargs), x)
        if (
            word == "pad"
            and kwargs.get("mode", "constant") == "constant"
            and not kwargs.get("value")
            and len(args) == 2
        ):
            return self.linear(lambda t: F.pad(t, args[1]), x)
        if word == "getitem" and isinstance(args[1], tuple) and args[1][0] == slice(None):
            return self.linear(lambda t: t[args[1]], x)
        raise self.unknown(word)

    def arithmetic(self, word: str, x: Any, y: Any = None) -> _Value:
        if word == "neg":
            return self.step(_scaled(x.sample.new_tensor(-1.0)), x)
        if isinstance(x, _Value) and isinstance(y, _Value):
            if word in ("add", "sub") and x.sample.shape == y.sample.shape:
                return self.step(Sum(1 if word == "add" else -1), x, y)
            raise self.unknown(word)
        if not isinstance(x, _Value):  # a constant comes first
            if word == "sub":
                x, y, word = self.arithmetic("neg", y), x, "add"
            elif word in ("add", "mul"):
                x, y = y, x
            else:
                raise self.unknown(word)
        constant = torch.as_tensor(y, dtype=x.sample.dtype, device=x.sample.device)
        if (x.sample + constant).shape != x.sample.shape:
            raise self.unknown(word)
        if word in ("add", "sub"):
            return self.step(Affine(_same, _same, constant if word == "add" else -constant, pointwise=True), x)
        return self.step(_scaled(constant if word == "mul" else 1 / constant), x)

    def norm(self, layer: nn.BatchNorm1d | nn.BatchNorm2d, x: _Value) -> Affine:
        mean, var = self.statistics.get(layer, (layer.running_mean, layer.running_var))
        if mean is None or var is None:
            raise ModelError(f"the layer {self.name!r} keeps no running mean; its answers depend on the batch.")
        scale = (var + layer.eps).rsqrt() * (layer.weight if layer.affine else 1)
        shift = -mean * scale + (layer.bias if layer.affine else 0)
        form = (-1, *(1,) * (x.sample.ndim - 2))
        return _scaled(scale.reshape(form), shift.reshape(form))

    def linear(self, function: Map, x: _Value, shape: Sequence[int] | None = None) -> _Value:
        """A linear map with weights of 0 and above."""
        if shape is not None and shape[0] != 2:
            raise self.unknown("reshaping the batch")
        return self.step(Affine(function, function), x)

    def step(self, operation: Operation, *inputs: _Value) -> _Value:
        with torch.no_grad():
            sample = operation.apply(*(value.sample for value in inputs))
        if sample.ndim < 2 or len(sample) != 2:
            raise self.unknown("mixing the batch")
        self.steps.append(Step(self.name, operation, tuple(value.number for value in inputs), tuple(sample.shape[1:])))
        return _Value(len(self.steps), sample)

    def unknown(self, what: str) -> ModelError:
        return ModelError(
            f"no bounds are known for {self.name!r} ({what}) of {self.owner()}; known are convolutions, dense layers, "
            "BatchNorm, pooling, sums, and activations that rise, as well as GELU and SiLU."
        )

    def owner(self) -> str:
        return type(self.model).__name__


def _trace(model: nn.Module) -> tuple[list[fx.Node], dict[str, Any]]:
    """The nodes of the forward pass, and the constants that it reads, by name."""
    before = set(vars(model))
    try:
        nodes = list(fx.Tracer().trace(model).nodes)
        return nodes, {str(n.target): operator.attrgetter(str(n.target))(model) for n in nodes if n.op == "get_attr"}
    except Exception as error:  # whatever the caller's forward does with what is no tensor
        raise ModelError(
            f"bounds cannot follow the forward pass of {type(model).__name__}: {first_line(error)}."
        ) from error
    finally:
        for name in set(vars(model)) - before:  # torch.fx keeps the constants of a forward pass in the caller's model
            delattr(model, name)


def _same(x: Tensor) -> Tensor:
    return x


def _scaled(scale: Tensor, shift: Tensor | None = None) -> Affine:
    size = scale.abs()
    return Affine(lambda x: x * scale, lambda x: x * size, shift, adjoint=lambda a, shape: a * scale, pointwise=True)


def _dense(weight: Tensor, bias: Tensor | None) -> Affine:
    size = weight.abs()
    return Affine(lambda x: x @ weight.T, lambda x: x @ size.T, bias, weight, lambda a, shape: a @ weight)


def _convolution(layer: nn.Conv2d) -> Affine:
    weight, size = layer.weight, layer.weight.abs()
    bias = None if layer.bias is None else layer.bias[:, None, None]

    def convolve(x: Tensor, kernel: Tensor) -> Tensor:
        return F.conv2d(x, kernel, None, layer.stride, layer.padding, layer.dilation, layer.groups)

    def adjoint(a: Tensor, shape: tuple[int, ...]) -> Tensor:
        found: Tensor = conv2d_input(shape, weight, a, layer.stride, layer.padding, layer.dilation, layer.groups)  # type: ignore[no-untyped-call]
        return found

    exact = None if isinstance(layer.padding, str) else adjoint
    return Affine(lambda x: convolve(x, weight), lambda x: convolve(x, size), bias, adjoint=exact)


def _max_pool(
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> MaxPool:
    """As F.max_pool2d; ``return_indices`` is there to be taken, and false."""

    def pool(x: Tensor) -> tuple[Tensor, Tensor]:
        values, places = F.max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode, return_indices=True)
        return values, places

    return MaxPool(pool, apart=dilation in (1, (1, 1)) and stride in (None, kernel_size))


def _out_of_place(layer: nn.Module) -> Map:
    """The activation as a function that leaves its argument alone, as an inplace layer does not."""

    def function(x: Tensor) -> Tensor:
        y: Tensor = layer(x.clone() if getattr(layer, "inplace", False) else x)
        return y

    return function
