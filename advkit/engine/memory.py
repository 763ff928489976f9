"""Memory: what to do where it runs out, and freed memory kept for the next pass."""

from __future__ import annotations

import ctypes
import gc
import platform
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")

__all__ = ["asked_in_part", "keep_freed_memory", "make_room", "memory_is_full"]

# What is said on the CPU by torch's allocator, the C++ library's and oneDNN, and on devices that have no error of their own.
_SAID = (
    "can't allocate memory",
    "not enough memory",
    "bad_alloc",
    "could not create a primitive",
    "could not create a memory",
    "out of memory",
    "ALLOC_FAILED",
)
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_MOST = 1 << 30


def memory_is_full(error: BaseException) -> bool:
    """Whether an error says that there was not enough memory, on whatever device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _SAID)


def asked_in_part(ask: Callable[[int], T], count: int) -> T:
    """What ``ask`` answers of ``count`` rows or, where memory runs out, of half of them, and so on down to one."""
    while True:
        try:
            return ask(count)
        except (RuntimeError, MemoryError) as error:
            if not memory_is_full(error) or count <= 1:
                raise
        # Out here: an error that is being handled keeps the tensors alive of the pass that it broke off.
        make_room()
        count //= 2


def make_room() -> None:
    """Give back what a pass that was broken off has left: tensors in cycles, and freed blocks that glibc keeps."""
    gc.collect()
    if _has_glibc():
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed memory for this process; True where it agreed.

    By default it hands every large block back to the kernel and takes it again in the next pass, page by page, which on a
    CPU costs more than the arithmetic of a projection (``python benchmarks/overhead.py`` shows both). It changes the whole
    process, so importing advkit does not do it: the command line does, and a script may.
    """
    if not _has_glibc():
        return False
    libc = ctypes.CDLL("libc.so.6")
    return bool(libc.mallopt(_TRIM_THRESHOLD, _MOST)) and bool(libc.mallopt(_MMAP_THRESHOLD, _MOST))


def _has_glibc() -> bool:
    return platform.system() == "Linux" and platform.libc_ver()[0] == "glibc"
