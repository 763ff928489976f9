"""Several processes that train one network, each on its part of every batch; one process is the case of a world of one."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from advkit.errors import InputError

__all__ = ["ALONE", "Ranks", "joined", "synchronised"]

# The others wait while the first one fetches data and measures at the end; torchrun ends them where it fails.
_PATIENCE = timedelta(hours=12)


@dataclass(frozen=True)
class Ranks:
    """This process's place among all of them."""

    rank: int = 0
    world: int = 1
    local: int = 0  # among those of this machine

    @property
    def first(self) -> bool:
        """Whether it is the one that writes files and speaks."""
        return self.rank == 0

    def total(self, numbers: Tensor) -> Tensor:
        """The sum over all processes, on each."""
        if self.world == 1:
            return numbers
        numbers = numbers.clone()
        dist.all_reduce(numbers)
        return numbers

    def said(self, numbers: Tensor) -> Tensor:
        """The first process's numbers, on each."""
        if self.world > 1:
            numbers = numbers.clone()
            dist.broadcast(numbers, 0)
        return numbers

    def gathered(self, numbers: Tensor) -> list[Tensor]:
        """Every process's tensor, on each, one for each rank; they may differ in the number of rows."""
        if self.world == 1:
            return [numbers]
        rows = torch.zeros(self.world, dtype=torch.long, device=numbers.device)
        rows[self.rank] = len(numbers)
        counts = self.total(rows).tolist()
        filled = numbers.new_zeros(max(counts), *numbers.shape[1:])
        filled[: len(numbers)] = numbers
        found = [torch.empty_like(filled) for _ in range(self.world)]
        dist.all_gather(found, filled)
        return [one[:count] for one, count in zip(found, counts, strict=True)]

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            dist.barrier()


ALONE = Ranks()


@contextmanager
def joined(device: str | None = None) -> Iterator[Ranks]:
    """The processes that ``torchrun`` started, known by its environment; alone where there is none.

    They talk by NCCL where each has a GPU of its own, by gloo elsewhere.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 or "RANK" not in os.environ:
        yield ALONE
        return
    ranks = Ranks(int(os.environ["RANK"]), world, int(os.environ.get("LOCAL_RANK", "0")))
    gpus = torch.cuda.device_count() if device is None or device.startswith("cuda") else 0
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device is not None and gpus and local > gpus:
        raise InputError(f"{local} processes share {gpus} GPUs; start at most {gpus}, or give --device cpu.")
    if gpus >= local:
        torch.cuda.set_device(ranks.local)
        dist.init_process_group("nccl", device_id=torch.device("cuda", ranks.local), timeout=_PATIENCE)
    else:
        dist.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield ranks
    finally:
        # DistributedDataParallel lies in cycles that hold the group; freed after it, its threads abort the process at times.
        gc.collect()
        dist.destroy_process_group()


class _Total(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of all gradients, and can be differentiated again."""

    @staticmethod
    def forward(ctx: object, numbers: Tensor) -> Tensor:
        numbers = numbers.clone()
        dist.all_reduce(numbers)
        return numbers

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        return _total(grad)


def _total(numbers: Tensor) -> Tensor:
    found: Tensor = _Total.apply(numbers)
    return found


def _normalised(self: Any, x: Tensor) -> Tensor:
    """Batch normalisation in training by the mean and the variance of all processes' examples."""
    if not self.training:
        usual: Tensor = super(type(self), self).forward(x)
        return usual
    values = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    mean, var, count = _moments(values)
    shape = (1, -1, *(1 for _ in x.shape[2:]))
    centred = values - mean.view(shape)
    if self.track_running_stats:
        _follow(self, mean.detach(), (var * count / (count - 1)).detach())
    scale = (var + self.eps).rsqrt()
    scale = scale if self.weight is None else scale * self.weight
    out = centred * scale.view(shape)
    out = out if self.bias is None else out + self.bias.view(shape)
    typed: Tensor = out.to(x.dtype)
    return typed


def _moments(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance (C,) of all processes' values (B, C, ...), with their gradients, and of how many they are."""
    axes = [0, *range(2, values.ndim)]
    own = torch.full((1,), values.numel() // values.shape[1], dtype=values.dtype, device=values.device)
    sums = _total(torch.cat([values.sum(axes), own]))
    count = sums[-1].detach()
    mean = sums[:-1] / count
    centred = values - mean.view(1, -1, *(1 for _ in axes[1:]))
    return mean, _total(centred.square().sum(axes)) / count, count


def _follow(norm: Any, mean: Tensor, var: Tensor) -> None:
    """Move the running statistics, as torch's own batch normalisation does."""
    with torch.no_grad():
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
        share = 1 / float(norm.num_batches_tracked or 1) if norm.momentum is None else norm.momentum
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
        norm.running_var.lerp_(var.to(norm.running_var.dtype), share)


@contextmanager
def synchronised(model: nn.Module, ranks: Ranks) -> Iterator[None]:
    """Let every BatchNorm of the model see the examples of all processes; names and tensors stay as they are.

    torch's SyncBatchNorm works on GPUs only, and cannot be differentiated twice. The class is changed in place, so that
    whoever holds the layer holds the same one, and changed back at the end.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)] if ranks.world > 1 else []
    classes = [type(norm) for norm in norms]
    try:
        for norm, kind in zip(norms, classes, strict=True):
            # The module of the kind: torch.fx looks there to see a layer of torch's own, into which it does not go.
            parts = {"forward": _normalised, "moments": staticmethod(_moments), "__module__": kind.__module__}
            norm.__class__ = type(f"Synchronised{kind.__name__}", (kind,), parts)
        yield
    finally:
        for norm, kind in zip(norms, classes, strict=True):
            norm.__class__ = kind
