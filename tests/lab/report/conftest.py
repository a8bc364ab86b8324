"""One browser, and the page of one study, for all tests of the report."""

import pytest
from browser import CHROMIUM, chromium
from pages import written
from run_folders import make_runs, write_failure


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with chromium() as found:
        yield found


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """20 trials, of which one each failed, is damaged and open, and a stage that failed; to be left as it is."""
    root = tmp_path_factory.mktemp("runs")
    make_runs(root, 20, seeds=2, failed=1, damaged=1, unfinished=1)
    write_failure(root / "stages" / "float-1234", "No space <left>.")
    return written(root)
