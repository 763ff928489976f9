"""Freed memory, kept for the next pass."""

from __future__ import annotations

import ctypes
import platform

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_MOST = 1 << 30


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed memory for this process; True where it agreed.

    By default it hands every large block back to the kernel and takes it again in the next pass, page by page, which on a
    CPU costs more than the arithmetic of a projection (``python benchmarks/overhead.py`` shows both). It changes the whole
    process, so importing advkit does not do it: the command line does, and a script may.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL("libc.so.6")
    return bool(libc.mallopt(_TRIM_THRESHOLD, _MOST)) and bool(libc.mallopt(_MMAP_THRESHOLD, _MOST))
