"""Tools that `make` runs as modules from the project's folder, such as `python -m tools.doctor`."""
