"""Where memory runs out, on whatever device, passes are halved and the numbers stay the same."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from helpers import conv_net, pictures
from torch import Tensor, nn

import advkit
from advkit.attacks import PGD, Square
from advkit.core.modes import borrowed
from advkit.engine.memory import asked_in_part, memory_is_full
from advkit.engine.passes import Passes
from advkit.engine.precision import Precision, choose_precision

FULL = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 805306368 bytes. Error code 12"


class Full(nn.Module):
    """Runs out of memory above so many rows, wherever it is called, its traced copies too."""

    def __init__(self, inner: nn.Module, most: int, error: Callable[[], Exception]) -> None:
        super().__init__()
        self.inner, self.room = inner, Room(most, error)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.room(x))


class Room(nn.Module):
    """Lets at most so many rows pass; a leaf to tracing by its place in torch's own namespace."""

    def __init__(self, most: int, error: Callable[[], Exception]) -> None:
        super().__init__()
        self.most, self.error, self.seen = most, error, []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        if len(x) > self.most:
            raise self.error()
        return x


Room.__module__ = "torch.nn.room"

ERRORS = [lambda: RuntimeError(FULL), MemoryError, lambda: torch.OutOfMemoryError("CUDA out of memory")]


def test_what_allocators_say_is_understood() -> None:
    assert all(memory_is_full(make()) for make in ERRORS)
    assert memory_is_full(RuntimeError("std::bad_alloc"))
    assert not memory_is_full(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not memory_is_full(ValueError("out of memory"))


def test_a_question_is_halved_until_it_fits_and_other_errors_come_through() -> None:
    asked: list[int] = []

    def ask(count: int, most: int = 3) -> int:
        asked.append(count)
        if count > most:
            raise MemoryError
        return count

    assert asked_in_part(ask, 16) == 2
    assert asked == [16, 8, 4, 2]
    with pytest.raises(MemoryError):
        asked_in_part(lambda count: ask(count, 0), 4)
    with pytest.raises(ZeroDivisionError):
        asked_in_part(lambda count: count // 0, 4)


@pytest.mark.parametrize("error", ERRORS)
def test_the_choice_of_precision_takes_fewer_pictures(error: Callable[[], Exception]) -> None:
    x = pictures(8).float()
    net = Full(conv_net().float(), 2, error).eval()
    with borrowed(net):
        assert choose_precision("auto", net, x).name == choose_precision("auto", net.inner, x).name == "float32, folded"
        net.room.most = 0
        assert choose_precision("auto", net, x).name == "float32"


def test_an_evaluation_comes_to_the_same_whatever_fits() -> None:
    x, y = pictures(12).float(), torch.arange(12) % 5
    inner = conv_net().float()
    attacks = [PGD(steps=5), Square(queries=20)]
    found = []
    for most in (1000, 3, 1):
        net = Full(inner, most, MemoryError).eval()
        found.append(advkit.evaluate(net, (x, y), attacks, seed=1))
    for other in found[1:]:
        assert torch.equal(other.clean, found[0].clean)
        assert other.precision == found[0].precision
        for one, two in zip(found[0].outcomes, other.outcomes, strict=True):
            assert torch.equal(one.success, two.success)
            torch.testing.assert_close(one.distance, two.distance, rtol=0, atol=1e-5)
        assert [str(doubt) for doubt in other.doubts] == [str(doubt) for doubt in found[0].doubts]


def test_passes_that_are_filled_up_are_not_filled_beyond_what_fits() -> None:
    inner = conv_net()
    net = Full(inner, 2, MemoryError)
    x = pictures(5)
    with borrowed(net):
        passes = Passes(net, Precision.own(net), 8, least=8)
        torch.testing.assert_close(passes.judge(x), inner(x).detach(), rtol=0, atol=1e-12)
    assert passes.batch_size == passes.least == 2


_UNDER = """
import resource, sys
import torch
from torch import nn
import advkit
from advkit import Linf
from advkit.attacks import PGD
torch.set_num_threads(2)
torch.manual_seed(0)
whole, extra, side, count, batch, channels, depth = (int(text) for text in sys.argv[1:])
layers = [nn.Conv2d(3, channels, 1), nn.BatchNorm2d(channels), *(nn.LeakyReLU() for _ in range(depth)), nn.AvgPool2d(8),
          nn.Conv2d(channels, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)]
net = nn.Sequential(*layers).eval()
x = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)
with torch.no_grad():
    y = torch.cat([net(row.float() / 255).argmax(1) for row in x.split(1)])
if whole or extra:
    # What the process may write to; the address space of the libraries, far larger, is not counted.
    with open("/proc/self/status") as status:
        taken = next(int(line.split()[1]) for line in status if line.startswith("VmData")) << 10
    limit = (whole or (taken >> 20) + extra) << 20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        torch.empty(limit, dtype=torch.uint8)
        sys.exit(3)  # the system does not hold it
    except RuntimeError:
        pass
seen = []
net.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
result = advkit.evaluate(net, advkit.TensorData(x, y), [PGD(Linf(0.2), steps=2)], batch_size=batch or None)
assert result.correct.all()
print([outcome.success.tolist() for outcome in result.outcomes], file=sys.stdout)
print(max(seen), [str(doubt) for doubt in result.doubts], file=sys.stderr)
"""


def _under(*sizes: int) -> tuple[str, str]:
    """What an evaluation came to, and what it says besides, with so many MB in all, or more than at its start."""
    ran = subprocess.run([sys.executable, "-c", _UNDER, *map(str, sizes)], capture_output=True, text=True, timeout=300)
    if ran.returncode == 3:
        pytest.skip("the system does not keep a process to its RLIMIT_DATA")
    assert ran.returncode == 0, ran.stderr[-2000:]
    return ran.stdout, ran.stderr


_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts mappings on Linux alone")


@_LINUX
def test_images_of_512_pixels_are_evaluated_in_4_gigabytes() -> None:
    _under(4096, 0, 512, 6, 0, 16, 1)


@_LINUX
def test_an_evaluation_that_fills_the_memory_of_a_cpu_comes_to_the_same() -> None:
    sizes = (64, 64, 64, 32, 12)  # 34 MB for each layer
    full, free = _under(0, 250, *sizes)[0], _under(0, 0, *sizes)[0]
    assert full == free
    assert "True" in free
