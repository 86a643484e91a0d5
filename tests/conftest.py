"""What holds for every test: commands run as from a user's shell, and on the machine that guards the project (CI is
set) a skipped test is a failed one, since what is not run is not known.
"""

import os
from collections.abc import Generator

import pytest

for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):  # `make test` hands these on, and an inner make then talks of itself
    os.environ.pop(name, None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped while CI is set: {report.longrepr}"
    return report
