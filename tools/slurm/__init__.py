"""Run on SLURM: Snakemake as a job of its own, the shell of a training, a throw-away cluster for tests."""
