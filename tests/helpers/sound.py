"""Make sounds for tests."""

import wave
from pathlib import Path

import numpy as np


def tone(rate_hz: int, seconds: float = 1.0, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate_hz * seconds)) / rate_hz)).astype(np.float32)


def record(path: Path, value: int, seconds: float = 0.1) -> None:
    """Write a square wave of an amplitude."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((b"\0\0" + (1000 * value).to_bytes(2, "little")) * int(8000 * seconds))
