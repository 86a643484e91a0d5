"""Show what a run would do, and why: `python -m tools.plan [--each] [arguments of snakemake]`.

It prints for every stage its jobs, the reason (new, gone, the config key or the code that changed, an input that
changed or is made again), about how long they take, what they write, and the memory of one job. The exit status is 1 if
the disk is too small. `--each` lists every job.
"""

import argparse

from concertina import console, corpora
from concertina.artefacts import keys
from concertina.artefacts.sizes import Estimate
from concertina.config import load
from tools import gpu
from tools.plan import cards, table
from tools.plan.disk import shortage
from tools.plan.jobs import PlanError, experiment, planned
from tools.plan.rates import Rates


@console.run
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="tools.plan", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--each", action="store_true", help="list every job")
    args, arguments = parser.parse_known_args(argv)
    corpora.may_be_absent = True
    config = load(experiment(arguments))
    keys.check(config)
    estimate = Estimate(config)
    try:
        jobs = planned(arguments, config, estimate)
    except PlanError as error:
        console.say(str(error))
        return 1
    head = f"{config.name} ({experiment(arguments)})"
    if not jobs:
        print(f"{head}: nothing to do; results/{config.name}/report.html is the page to read")
        return 0
    rates = Rates(estimate, on_gpu=bool(gpu.devices()))
    elsewhere = any(argument.endswith("profile") for argument in arguments)
    rows = [*table.rows(jobs, rates, args.each), "", table.total(jobs, rates, elsewhere)]
    rows = [f"{head}: {len(jobs)} jobs", "", *rows]
    print("\n".join([*rows, *cards.rows(jobs, estimate), *table.notes(jobs, estimate, rates)]))
    if short := shortage(jobs):
        console.say(f"error: {short}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
