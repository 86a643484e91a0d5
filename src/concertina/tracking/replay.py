"""The track stage: replay what an experiment has made into the experiment tracker, a copy that is never the source.

INPUTS   results/<name>/evaluate/, results/<name>/failed/, results/<name>/report/ and build/<name>/train/
OUTPUTS  a parent run for the experiment, below it one run per adapter; scratch/track/<name>/: that this was done

Runs are known by their run keys: a second replay adds nothing, one that was interrupted is completed by the next.
"""

from typing import Any

from concertina import config as configs
from concertina import console
from concertina.artefacts import dag, stage
from concertina.config import Config
from concertina.store import sealing
from concertina.tracking import mlflow_client, runs
from concertina.tracking.mlflow_client import Experiment

COLUMN_SETS = 3  # test sets whose scores are columns of the view; of the others they are a click away


@console.run
def main(argv: list[str] | None = None) -> int:
    """Replay a config's results."""
    about = (
        "Record what a config has made in the experiment tracker; a second time adds nothing. "
        f"Where: {mlflow_client.VARIABLE}, or {mlflow_client.DATABASE} in the working directory."
    )
    command_line = stage.parser("report_track", about)
    command_line.add_argument(
        "--failures", type=int, help="as a part of a run: how often this failed before; a failure is told and counted"
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
        except Exception as error:  # whatever it is, the results are there
            draft.note(failures=args.failures + 1)
            console.say(f"not recorded yet, the next run and `make track` try again: {mlflow_client.one_line(error)}")
    return 0


def failures(config: Config) -> int:
    """How many replays failed as parts of runs; where the number has grown, the next run replays once more."""
    try:
        return int(sealing.read_seal(dag.artefact(config, "report_track").folder).get("failures", 0))
    except (sealing.DamagedError, ValueError):
        return 0


def replay(config: Config) -> dict[str, int]:
    """Bring the tracker up to the files; how many runs were 'new', 'completed', 'known'. Errors: TrackingError."""
    counts = {"new": 0, "completed": 0, "known": 0}
    with mlflow_client.told_where(), mlflow_client.alone():
        experiment = Experiment(config.name)
        found = list(runs.find(config))
        parent = _parent(experiment, config, any(run.failed for run in found))
        with console.Progress(len(found), "runs") as progress:
            for run in found:
                counts[_record(experiment, parent, config, run)] += 1
                progress.add()
        tags = ("realised_ratio",)
        experiment.show(("compressor", "ratio", "train_set", "seed"), tags, _columns(config))
    return counts


def summary(counts: dict[str, int]) -> str:
    """What a replay did, in one line."""
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) or "none yet"
    return f"runs recorded at {mlflow_client.place()}: {told}; `make ui` shows them"


def _columns(config: Config) -> list[str]:
    """The headline metric of the first test sets, before and after training."""
    sets = config.evaluate.sets[:COLUMN_SETS]
    heads = [f"{chosen.name}/{config.evaluate.metrics[chosen.task][0]}" for chosen in sets]
    return [f"{head}_{when}" for head in heads for when in ("zero_shot", "adapted")]


def _parent(experiment: Experiment, config: Config, failed: bool) -> str:
    """The experiment's own run, whose report is the latest."""
    found = experiment.runs("kind", "experiment")
    tags = {"kind": "experiment", "track": config.name}
    run_id = found[0].info.run_id if found else experiment.begin(config.name, tags)
    key, files = runs.report(config) or ("", {})
    status = "FAILED" if failed else "FINISHED" if key else "RUNNING"
    state = f"{status} {key}"
    if not found or found[0].data.tags.get("replayed") != state:
        experiment.upload(run_id, files)
        experiment.end(run_id, status)
        experiment.describe(run_id, {"run_key": key, "replayed": state}, {})
    return str(run_id)


def _record(experiment: Experiment, parent: str, config: Config, run: runs.Run) -> str:
    """Record one run under its keys, unless it is; says which. The tag `replayed` comes last: it tells a whole one."""
    same = experiment.runs("run_key", run.key)
    if any(_tags(other).get("replayed") == run.state for other in same):
        return "known"
    told = runs.tell(run, config.evaluate.sets[0].name)
    keys = {"run_key": run.key, **({"scores_run_key": run.scores_key} if run.scores_key else {})}
    # A run whose scores have another key is another evaluation: that one stays as it is.
    begun = [other for other in same if _tags(other).get("scores_run_key") in (None, run.scores_key)]
    if begun:
        run_id, logged, had = begun[0].info.run_id, experiment.logged(begun[0]), _tags(begun[0])
        written = begun[0].data.params  # once: those outside the run key (how often to checkpoint) may differ by now
    else:
        run_id, logged, had, written = experiment.begin(run.name, keys, told.began_s), set(), {}, {}
    last = max((row["step"] for row in told.curve), default=0) or 1
    took_s = told.trained_s - told.began_s
    values = [(*value, told.began_s + took_s * value[2] / last) for value in runs.values(told.curve)]
    values += [(name, value, 0, told.ended_s) for name, value in told.metrics.items()]
    experiment.log(run_id, (value for value in values if (value[0], value[2]) not in logged))
    experiment.upload(run_id, told.files)
    if "error" in had and not run.error:
        experiment.forget(run_id, "error")
    tags = {**told.tags, **keys, mlflow_client.PARENT: parent}
    params = {name: value for name, value in told.params.items() if name not in written}
    experiment.describe(run_id, tags, params)
    experiment.end(run_id, run.status, told.ended_s)
    experiment.describe(run_id, {"replayed": run.state}, {})
    return "completed" if begun else "new"


def _tags(run: Any) -> dict[str, str]:
    return dict(run.data.tags)


if __name__ == "__main__":
    raise SystemExit(main())
