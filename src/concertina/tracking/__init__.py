"""A copy of finished runs in an experiment tracker, for people to browse; no stage reads it."""
