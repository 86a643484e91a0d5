"""Assembling a base: a pretrained Whisper encoder and a pretrained LLM, read, joined, and the projector trained."""
