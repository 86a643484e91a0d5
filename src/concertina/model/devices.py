"""What a process computes with: threads, kernels, memory, and the device."""

import contextlib
import ctypes
import os

import torch

from concertina import console

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def fix(threads: int, precision: str = "float32") -> None:
    """Make the results of this process a matter of the config: a fixed number of threads, deterministic kernels."""
    if precision == "bfloat16" and not computes_bfloat16():
        console.say("warning: this processor emulates bfloat16, hundreds of times slower; set `precision: float32`")
    keep_memory()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what CUDA needs for that, before its first product
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)


def keep_memory() -> None:
    """Have freed memory stay with the process: large batches ask for the same again (benchmarks/memory.py)."""
    with contextlib.suppress(OSError, AttributeError):  # glibc has these alone
        for setting, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1)):
            ctypes.CDLL(None).mallopt(setting, value)


def computes_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 itself; one that does not is hundreds of times slower at it."""
    return torch.cuda.is_available() or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def device() -> str:
    """Where this process computes: the GPU that it sees, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def gpu_name() -> str | None:
    """The GPU's name, for a record; None where there is none."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
