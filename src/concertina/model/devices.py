"""Set what a process computes with: threads, kernels, memory and the device."""

import contextlib
import ctypes
import os

import torch

from concertina import console

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def fix(threads: int, precision: str = "float32") -> None:
    """Fix the number of threads and use deterministic kernels, so that results depend on the config alone."""
    if precision == "bfloat16" and not computes_bfloat16():
        console.say("warning: this processor emulates bfloat16, hundreds of times slower; set `precision: float32`")
    keep_memory()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # needed before CUDA's first product
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)


def keep_memory() -> None:
    """Keep freed memory in the process, because the next large batch needs as much again (benchmarks/memory.py)."""
    with contextlib.suppress(OSError, AttributeError):  # only glibc has these settings
        for setting, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1)):
            ctypes.CDLL(None).mallopt(setting, value)


def computes_bfloat16() -> bool:
    """Return whether this machine multiplies bfloat16 itself; emulation is hundreds of times slower."""
    return torch.cuda.is_available() or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def device() -> str:
    """Return where this process computes: on the GPU if it sees one, otherwise on the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def gpu_name() -> str | None:
    """Return the GPU's name for a record; None where there is none."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
