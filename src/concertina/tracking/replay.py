"""The stage report_track copies the results of an experiment into the experiment tracker.

INPUTS   results/<name>/evaluate/, results/<name>/failed/, results/<name>/report/ and build/<name>/train/
OUTPUTS  a parent run for the experiment, below it one run per adapter; scratch/track/<name>/: that this was done

Runs are recognised by their run keys: a second replay adds nothing, and an interrupted one is completed by the next.
"""

from typing import Any

from concertina import config as configs
from concertina import console
from concertina.artefacts import dag, stage
from concertina.config import Config
from concertina.store import sealing
from concertina.tracking import mlflow_client, runs
from concertina.tracking.mlflow_client import Experiment

COLUMN_SETS = 3  # test sets whose scores are columns of the view; those of the others are on the page of each run


@console.run
def main(argv: list[str] | None = None) -> int:
    """Copy a config's results into the tracker."""
    about = (
        "Copy the results of a config into the experiment tracker; a second time adds nothing. The tracker is the one "
        f"that {mlflow_client.VARIABLE} names, or {mlflow_client.DATABASE} in the working directory."
    )
    command_line = stage.parser("report_track", about)
    command_line.add_argument(
        "--failures",
        type=int,
        help="given by a run: how often this failed before; a failure is then printed and counted, and is no error",
    )
    args = command_line.parse_args(argv)
    config = configs.load(args.config)
    if args.failures is None:
        console.say(summary(replay(config)))
        return 0
    artefact = dag.artefact(config, "report_track")
    with sealing.drafting(artefact.folder) as draft:
        draft.note(run_key="", place=mlflow_client.place(), failures=args.failures)
        try:
            console.say(summary(replay(config)))
            (report,) = dag.inputs(config, artefact)
            draft.note(run_key=stage.sealed_key(report))
        except Exception as error:  # whatever it is, the results are there, so the run must not fail
            draft.note(failures=args.failures + 1)
            console.say(f"not recorded yet, the next run and `make track` try again: {mlflow_client.one_line(error)}")
    return 0


def failures(config: Config) -> int:
    """Return how many replays have failed in runs. A run compares the number with its own, and replays if it grew."""
    try:
        return int(sealing.read_seal(dag.artefact(config, "report_track").folder).get("failures", 0))
    except (sealing.DamagedError, ValueError):
        return 0


def replay(config: Config) -> dict[str, int]:
    """Copy all runs into the tracker; count those that are 'new', 'completed' or 'known'. Errors: TrackingError."""
    counts = {"new": 0, "completed": 0, "known": 0}
    with mlflow_client.tracking_errors(), mlflow_client.alone():
        experiment = Experiment(config.name)
        all_runs = list(runs.find(config))
        parent = _parent(experiment, config, any(run.failed for run in all_runs))
        with console.Progress(len(all_runs), "runs") as progress:
            for run in all_runs:
                counts[_record(experiment, parent, config, run)] += 1
                progress.add()
        tags = ("realised_ratio",)
        experiment.show(("compressor", "ratio", "train_set", "seed"), tags, _columns(config))
    return counts


def summary(counts: dict[str, int]) -> str:
    """Describe in one line what a replay did."""
    done = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) or "none yet"
    return f"runs recorded at {mlflow_client.place()}: {done}; `make ui` shows them"


def _columns(config: Config) -> list[str]:
    """Return the names of the columns: the first metric of the first test sets, before and after training."""
    sets = config.evaluate.sets[:COLUMN_SETS]
    heads = [f"{one.name}/{config.evaluate.metrics[one.task][0]}" for one in sets]
    return [f"{head}_{when}" for head in heads for when in ("zero_shot", "adapted")]


def _parent(experiment: Experiment, config: Config, failed: bool) -> str:
    """Make or update the experiment's own run, which has the latest report, and return its id."""
    earlier = experiment.runs("kind", "experiment")
    tags = {"kind": "experiment", "track": config.name}
    run_id = earlier[0].info.run_id if earlier else experiment.begin(config.name, tags)
    key, files = runs.report(config) or ("", {})
    status = "FAILED" if failed else "FINISHED" if key else "RUNNING"
    state = f"{status} {key}"
    if not earlier or earlier[0].data.tags.get("replayed") != state:
        experiment.upload(run_id, files)
        experiment.end(run_id, status)
        experiment.describe(run_id, {"run_key": key, "replayed": state}, {})
    return str(run_id)


def _record(experiment: Experiment, parent: str, config: Config, run: runs.Run) -> str:
    """Record one run unless it is recorded already, and return 'new', 'completed' or 'known'.

    The tag `replayed` is written last, so that only a complete run has it.
    """
    earlier = experiment.runs("run_key", run.key)
    if any(_tags(other).get("replayed") == run.state for other in earlier):
        return "known"
    details = runs.details(run, config.evaluate.sets[0].name)
    keys = {"run_key": run.key, **({"scores_run_key": run.scores_key} if run.scores_key else {})}
    # A run whose scores have another key is another evaluation, and stays as it is.
    incomplete = [other for other in earlier if _tags(other).get("scores_run_key") in (None, run.scores_key)]
    if incomplete:
        run_id, logged, old_tags = incomplete[0].info.run_id, experiment.logged(incomplete[0]), _tags(incomplete[0])
        # The tracker takes a parameter once. Those outside the run key (how often to checkpoint) may differ by now.
        old_params = incomplete[0].data.params
    else:
        run_id, logged, old_tags, old_params = experiment.begin(run.name, keys, details.began_s), set(), {}, {}
    # A curve has no times of its own: its steps are spread evenly over the training.
    last_step = max((row["step"] for row in details.curve), default=0) or 1
    training_s = details.trained_s - details.began_s
    values = [(*value, details.began_s + training_s * value[2] / last_step) for value in runs.values(details.curve)]
    values += [(name, value, 0, details.ended_s) for name, value in details.metrics.items()]
    experiment.log(run_id, (value for value in values if (value[0], value[2]) not in logged))
    experiment.upload(run_id, details.files)
    if "error" in old_tags and not run.error:
        experiment.forget(run_id, "error")
    tags = {**details.tags, **keys, mlflow_client.PARENT: parent}
    params = {name: value for name, value in details.params.items() if name not in old_params}
    experiment.describe(run_id, tags, params)
    experiment.end(run_id, run.status, details.ended_s)
    experiment.describe(run_id, {"replayed": run.state}, {})
    return "completed" if incomplete else "new"


def _tags(run: Any) -> dict[str, str]:
    return dict(run.data.tags)


if __name__ == "__main__":
    raise SystemExit(main())
