"""Bases that are made here: trained from scratch, or joined from a pretrained encoder and a pretrained LLM."""
