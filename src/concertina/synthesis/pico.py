"""SVOX Pico through the PyPI wheel `py-nanotts`: a second synthesiser, never trained on."""

import functools

import numpy as np
import py_nanotts


@functools.cache
def _engine() -> "py_nanotts.NanoTTS":
    return py_nanotts.NanoTTS()


def speak(text: str, voice: str, speed: float, pitch: float) -> np.ndarray:
    """Synthesise one utterance: float32 samples_T at 16 kHz; speed and pitch are factors."""
    pcm = _engine().speak(text, voice=voice, speed=speed, pitch=pitch)
    return np.frombuffer(pcm, np.int16).astype(np.float32) / 32768
