"""Training a tiny base from nothing: examples drawn from synthetic speech, and the model with its losses."""
