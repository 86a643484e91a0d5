"""Comparing two prediction files: reading them, pairing their utterances, the numbers, and the words for them."""
