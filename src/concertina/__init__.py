"""Concertina squeezes the audio tokens that a speech language model reads, and measures what that costs."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads that spin slow small models several-fold

__version__ = "0.1.0"
