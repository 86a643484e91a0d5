"""The parts of synthetic speech: grammars with exact translations, two synthesisers, voices and noise."""
