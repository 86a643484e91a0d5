"""Make noise and mix it with speech. TRAINING kinds occur in training and dev; UNSEEN kinds only in hard splits."""

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator

from concertina.units import RATE_HZ

TRAINING = ("white", "pink", "band")
UNSEEN = ("babble", "brown", "gusts")


def make(kind: str, samples: int, draw: Generator, talkers: Sequence[np.ndarray] = ()) -> np.ndarray:
    """Make noise of one kind and unit power: float32 samples_T.

    talkers: speech for 'babble', each float32 samples_T, which is repeated or cut to length.
    """
    if kind == "babble":
        if not talkers:
            raise ValueError("babble is mixed from talkers: give at least one")
        noise = sum(np.resize(np.roll(t / (_rms(t) + 1e-9), draw.integers(len(t))), samples) for t in talkers)
    elif kind == "gusts":
        swell = 1 + np.sin(2 * np.pi * (draw.uniform(1, 5) * np.arange(samples) / RATE_HZ + draw.random()))
        noise = swell * _coloured(samples, draw, 1)
    elif kind == "band":
        noise = _coloured(samples, draw, 0, band_hz=np.sort(draw.uniform(100, 7000, 2)))
    else:
        noise = _coloured(samples, draw, {"white": 0, "pink": 1, "brown": 2}[kind])
    noise = np.asarray(noise, np.float32)
    return noise / (_rms(noise) + 1e-9)


def mix(speech: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add noise of unit power to speech (both [T]), at a signal-to-noise ratio in dB."""
    return speech + noise * np.float32(_rms(speech) * 10 ** (-snr_db / 20))


def _coloured(samples: int, draw: Generator, slope: int, band_hz: np.ndarray | None = None) -> np.ndarray:
    """Make Gaussian noise whose power falls as frequency to the power `slope`, inside a band if one is given."""
    spectrum = np.fft.rfft(draw.standard_normal(samples))
    frequency_hz = np.fft.rfftfreq(samples, 1 / RATE_HZ)
    spectrum *= np.maximum(frequency_hz, 40) ** (-slope / 2)
    if band_hz is not None:
        spectrum *= 0.05 + ((frequency_hz > band_hz[0]) & (frequency_hz < band_hz[1] + 300))
    return np.fft.irfft(spectrum, samples)


def _rms(wave: np.ndarray) -> float:
    """Return the root of the mean square of samples [T]."""
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))
