"""Checks of the uncompressed base: against published figures, and against Whisper itself."""
