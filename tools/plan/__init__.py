"""What a run would do, why, and what it takes: `python -m tools.plan`."""
