"""How a base is joined: read a pretrained Whisper and LLM, join them by a projector, and train it."""
