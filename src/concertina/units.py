"""Rates that hold everywhere: how audio is sampled, and how many frames the encoder makes of a second of it."""

RATE_HZ = 16_000  # samples per second of all audio here
FRAMES_PER_SECOND = 25  # of the encoder, before any compression
