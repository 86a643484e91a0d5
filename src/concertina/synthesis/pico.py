"""SVOX Pico through the PyPI wheel `py-nanotts`: a second synthesiser, never trained on."""

import numpy as np
import py_nanotts


def speak(text: str, voice: str, speed: float, pitch: float) -> np.ndarray:
    """Synthesise one utterance: float32 samples_T at 16 kHz; speed and pitch are factors.

    By an engine of its own: one that has spoken before says the same text differently in every process.
    """
    pcm = py_nanotts.NanoTTS().speak(text, voice=voice, speed=speed, pitch=pitch)
    return np.frombuffer(pcm, np.int16).astype(np.float32) / 32768
