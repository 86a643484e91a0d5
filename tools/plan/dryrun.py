"""Print what Snakemake would do, one JSON per job, on stdout: `python -m tools.plan.dryrun [arguments of snakemake]`.

This is Snakemake's own dry run with a logger plug-in that prints the jobs, passes errors on to stderr and drops the
rest. A corpus that the user has not provided yet is no error here.
"""

import json
import sys
from logging import ERROR, LogRecord

from snakemake.cli import main
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent, logger_plugin_module_prefix
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

from concertina import corpora


class LogHandler(LogHandlerBase):
    """Prints jobs."""

    writes_to_stream = True
    writes_to_file = has_filter = has_formatter = needs_rulegraph = False

    def emit(self, record: LogRecord) -> None:
        fields = vars(record)  # those of logging, and Snakemake's own
        if fields.get("event") == LogEvent.JOB_INFO:
            job = {
                "rule": fields["rule_name"],
                "name": (fields["rule_msg"] or "").partition(" ")[2],
                "wildcards": dict(fields["wildcards"]),
                "outputs": list(fields["output"]),
                "reason": fields["reason"],
                "threads": fields["threads"],
                "resources": {name: n for name, n in fields["resources"].items() if isinstance(n, int)},
            }
            print(json.dumps(job), flush=True)
        elif record.levelno >= ERROR:
            print(record.getMessage(), file=sys.stderr, flush=True)


if __name__ == "__main__":
    corpora.may_be_absent = True
    LoggerPluginRegistry().register_plugin(f"{logger_plugin_module_prefix}jobs", sys.modules[__name__])
    main(["--dry-run", "--nolock", "--logger", "jobs", *sys.argv[1:]])
