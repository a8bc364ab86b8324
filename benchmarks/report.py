"""The report of 2,000 trials with curves and layers: seconds to build it, the size of its page, and the time until a
browser paints it first (headless Chromium, where that is installed).

python benchmarks/report.py
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from shared.verdict import report

sys.path.append(str(Path(__file__).parent.parent / "tests" / "support"))

from browser import CHROMIUM, chromium, tab
from run_folders import make_runs

TRIALS, SEEDS, SITES, POINTS, EXAMPLES = 2_000, 5, 21, 100, 1_000
PAINTS = 5


def main() -> None:
    """Print what the whole report takes, from a run folder to its files, and its parts."""
    from qat.lab.report.contents import read_contents
    from qat.lab.report.write import rows_of, write_report

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        variants = [f"learning rate {1e-4 * 1.1**i:.2g}, width {16 + i}" for i in range(TRIALS // (10 * SEEDS))]
        make_runs(root, TRIALS, variants=variants, seeds=SEEDS, sites=SITES, points=POINTS, examples=EXAMPLES, failed=3)
        started, computed = time.perf_counter(), time.process_time()
        contents = read_contents(root)
        read = time.perf_counter()
        rows = rows_of(contents)
        summarized = time.perf_counter()
        written = write_report(contents, rows)
        done, computed = time.perf_counter(), time.process_time() - computed
        report(
            f"report of {TRIALS:,} trials, {SITES} layers each",
            [
                ("records read, s", read - started, None),
                ("verdicts, s", summarized - read, None),
                ("page, tables and pictures, s", done - summarized, None),
                ("all of it, s of the processor", computed, None),
                ("all of it, s", done - started, 15.0),
                ("page, MB", written[0].stat().st_size / 1e6, 10.0),
                *([("first paint, s", first_paint(written[0]), 2.0)] if CHROMIUM else []),
            ],
        )


def first_paint(page: Path) -> float:
    """Seconds from the start of a navigation to the first content on the screen: the median of five new browsers'."""
    found = []
    for _ in range(PAINTS):
        with chromium() as browser, tab(browser) as opened:
            opened.go(page.as_uri())
            paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
            found.append(opened.until(paint) / 1000)
    return statistics.median(found)


if __name__ == "__main__":
    main()
