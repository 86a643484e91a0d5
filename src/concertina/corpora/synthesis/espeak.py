"""Call eSpeak NG through ctypes: it turns text into samples inside this process, without a subprocess per utterance.

The engine keeps the state of its noise generator between calls. Only the same calls in the same order in a fresh
process give the same bits, so each part of a corpus is read in a process of its own.
"""

import ctypes
import functools
from collections.abc import Iterator
from typing import Any

import espeakng_loader
import numpy as np

_SYNCHRONOUS = 2
_PHONEME_EVENTS = 1
_UTF8 = 1
_END_OF_LIST, _PHONEME = 0, 7
_RATE, _PITCH, _RANGE = 1, 3, 4


class _Event(ctypes.Structure):
    """The struct espeak_EVENT of speak_lib.h; the name of a phoneme has up to eight bytes."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    ]


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


def _until_the_end(events: Any) -> Iterator[_Event]:
    """Yield the events of one callback, up to the mark that ends their list."""
    index = 0
    while events and events[index].type != _END_OF_LIST:
        yield events[index]
        index += 1


class Engine:
    """An initialised engine; `rate_hz` is the sample rate of what it speaks.

    `phonemes`: of the last utterance, (when the phoneme begins in ms, eSpeak's name of it).
    """

    def __init__(self) -> None:
        self._library = ctypes.CDLL(str(espeakng_loader.get_library_path()))
        self.rate_hz = self._library.espeak_Initialize(
            _SYNCHRONOUS, 0, str(espeakng_loader.get_data_path()).encode(), _PHONEME_EVENTS
        )
        if self.rate_hz <= 0:
            raise RuntimeError("eSpeak NG did not start; reinstall it: pip install --force-reinstall espeakng-loader")
        self.phonemes: list[tuple[int, str]] = []
        self._pieces: list[np.ndarray] = []
        self._callback = _CALLBACK(self._receive)  # must stay alive: the library holds only a pointer
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        """Collect the samples and phonemes of one callback; 0 lets the engine continue."""
        if samples and count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        for event in _until_the_end(events):
            if event.type == _PHONEME:
                self.phonemes.append((event.audio_position_ms, event.name.decode("utf-8", "replace")))
        return 0

    def speak(self, text: str, voice: str, words_per_minute: int, pitch: int, pitch_range: int) -> np.ndarray:
        """Synthesise one utterance: int16 samples_T at `rate_hz`. Errors: ValueError (no such voice).

        voice: language file and variant, such as 'gmw/en-US+f3'; pitch and pitch_range: 0 to 100.
        """
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"eSpeak NG has no voice {voice!r}")
        for parameter, value in ((_RATE, words_per_minute), (_PITCH, pitch), (_RANGE, pitch_range)):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._pieces.clear()
        self.phonemes.clear()
        encoded = text.encode()
        self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, _UTF8, None, None)
        return np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.int16)


@functools.cache
def engine() -> Engine:
    """Return the one engine of this process."""
    return Engine()
