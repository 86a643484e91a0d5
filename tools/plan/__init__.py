"""Show what a run would do, why, and how much time, disk and memory it takes: `python -m tools.plan`."""
