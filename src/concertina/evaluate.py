"""The evaluate stage: one cell, decoded and scored zero-shot and with each of its adapters, on every test set.

Each (test set, adapter or none) is decoded once and kept: a test set, a seed or an adapter that is new is decoded
alone, and a metric that is new decodes nothing.

INPUTS   build/<name>/features/... and build/<name>/segments/... of the test sets, the cell's adapters, the base model
OUTPUTS  build/<name>/evaluate/<cell>/<test set>/<run>/: the decoded texts (Parquet) and their record (JSON)
         results/<name>/evaluate/<cell>/<test set>/: a record (JSON) and the predictions (Parquet) of every run, which
         is zero-shot or <train set>-seed<n>
"""

from concertina import config as configs
from concertina import console
from concertina.artefacts import dag, stage
from concertina.reporting import scoring

SUBSTEPS = {"gate": "concertina.checks.gate", "whisper": "concertina.checks.whisper"}


@console.substeps(SUBSTEPS)
@console.run
def main(argv: list[str] | None = None) -> int:
    """Decode what is missing of one cell, and score it."""
    about = "Decode and score one cell on every test set: zero-shot, then with each adapter trained for it."
    args = stage.parser("evaluate", about, "--cell average-3").parse_args(argv)
    config = configs.load(args.config)
    artefact = dag.artefact(config, "evaluate", cell=args.cell)
    with stage.beginning(config, artefact, args) as run:
        units = run.inputs("evaluate_decode")
        from concertina.model import decoding  # imports torch and the model's library, which scoring does not need

        decoding.make_missing(config, units)
        with stage.filling(run):
            adapters = [one for one in dag.needs(config, artefact) if one.kind == "train"]
            run.note(adapters={one.run: stage.sealed_key(one) for one in adapters})
            for unit in units:
                scoring.score_unit(run, unit)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
