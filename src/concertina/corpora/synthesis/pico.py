"""SVOX Pico through the PyPI wheel `py-nanotts`: a second synthesiser, never trained on."""

import contextlib
import ctypes

import numpy as np
import py_nanotts

M_PERTURB = -6  # of glibc's malloc.h: fill fresh memory with the inverse of a byte
with contextlib.suppress(OSError, AttributeError):
    ctypes.CDLL(None).mallopt(M_PERTURB, 0xFF)  # Pico reads memory that it has not written: let that be zeros


def speak(text: str, voice: str, speed: float, pitch: float) -> np.ndarray:
    """Synthesise one utterance: float32 samples_T at 16 kHz; speed and pitch are factors.

    By an engine of its own: one that has spoken before says the same text differently in every process.
    """
    pcm = py_nanotts.NanoTTS().speak(text, voice=voice, speed=speed, pitch=pitch)
    return np.frombuffer(pcm, np.int16).astype(np.float32) / 32768
