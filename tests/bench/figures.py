"""What the benches print: sorted samples in, one table or JSON out."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Figures:
    """One row: what was measured of whom, in which unit."""

    what: str
    tool: str
    unit: str
    n: int
    failed: int
    """Runs in which nothing was measured, since the source was not blocked in time."""
    median: float
    p99: float
    """Nearest rank: of 100 runs the second longest; of a few runs the longest."""
    minimum: float
    maximum: float

    def as_json(self) -> dict[str, object]:
        """Return the row for --json, which knows no NaN."""
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in asdict(self).items()
        }


def summarise(what: str, tool: str, unit: str, samples: Sequence[float | None]) -> Figures:
    """Return the row for these samples; None among them is a failed run, and is counted apart."""
    good = sorted(sample for sample in samples if sample is not None)
    if not good:
        return Figures(what, tool, unit, 0, len(samples), math.nan, math.nan, math.nan, math.nan)
    rank = math.ceil(0.99 * len(good)) - 1
    return Figures(
        what,
        tool,
        unit,
        len(good),
        len(samples) - len(good),
        statistics.median(good),
        good[rank],
        good[0],
        good[-1],
    )


def format_table(rows: Sequence[Figures]) -> str:
    """Return the table; a row's ratio is its median over that of the first row of the same measurement."""
    lines = [
        f"{'':36} {'tool':21} {'n':>3} {'median':>8} {'p99':>8} {'min':>8} {'max':>8} {'ratio':>7}  failed"
    ]
    reference: dict[str, float] = {}
    for row in rows:
        first = reference.setdefault(row.what, row.median)
        ratio = row.median / first if first else math.nan
        label = f"{row.what} [{row.unit}]"
        times = f"{row.median:8.2f} {row.p99:8.2f} {row.minimum:8.2f} {row.maximum:8.2f} {ratio:6.2f}x"
        lines.append(f"{label:36} {row.tool:21} {row.n:3} {times}  {row.failed or '-'}")
    return "\n".join(lines)
