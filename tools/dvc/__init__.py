"""Artefacts by DVC: push and pull them, run a track, accept an edit that changes no result."""
