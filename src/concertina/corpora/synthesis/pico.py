"""Call SVOX Pico, a second synthesiser, through the PyPI wheel `py-nanotts`."""

import contextlib
import ctypes

import numpy as np
import py_nanotts

M_PERTURB = -6  # of glibc's malloc.h: fills new memory with the inverse of a byte
with contextlib.suppress(OSError, AttributeError):
    ctypes.CDLL(None).mallopt(M_PERTURB, 0xFF)  # zeros, because Pico reads memory before writing it


def speak(text: str, voice: str, speed: float, pitch: float) -> np.ndarray:
    """Synthesise one utterance: float32 samples_T at 16 kHz; speed and pitch are factors.

    Each call has an engine of its own, because an engine that has spoken before speaks differently in every process.
    """
    pcm = py_nanotts.NanoTTS().speak(text, voice=voice, speed=speed, pitch=pitch)
    return np.frombuffer(pcm, np.int16).astype(np.float32) / 32768
