"""What make calls, as modules that run from the project's folder: `python -m tools.doctor`. Nothing is installed."""
