"""What `make faults` prints at the end: every fault, how often it was tried and survived, and what was lost.

A test that is marked `faults("what")` tries that fault once, or as often as it says by the fixture `tried`. All that a
test tried counts as lost if it fails.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable

import pytest


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    for item in items:
        marker = item.get_closest_marker("faults")
        if marker is not None:
            item.user_properties.append(("fault", marker.args[0]))


@pytest.fixture
def tried(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """`tried(count)`, or `tried(count, what)` for a test that tries several faults."""
    marker = request.node.get_closest_marker("faults")

    def say(count: int, what: str | None = None) -> None:
        record_property("tried", [what or marker.args[0], count])

    return say


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if "faults" not in terminalreporter.config.option.markexpr:
        return
    rows: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            known = [value for name, value in report.user_properties if name == "fault"]
            counts = [value for name, value in report.user_properties if name == "tried"]
            for what, count in counts or [[one, 1] for one in known]:
                rows[what][0] += count
                rows[what][1] += count * (outcome == "passed")
    width = max(map(len, rows), default=0)
    terminalreporter.write_sep("=", "faults")
    terminalreporter.write_line(f"{'':{width}}  tried  survived  lost")
    for what, (count, survived) in {
        **rows,
        "all": [sum(of) for of in zip(*rows.values(), strict=True)] or [0, 0],
    }.items():
        terminalreporter.write_line(f"{what:{width}}  {count:5}  {survived:8}  {count - survived or 'nothing'}")
