"""Finished runs, mirrored into an experiment tracker."""
