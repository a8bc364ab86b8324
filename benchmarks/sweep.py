"""The quick-start study in one command against as many separate `qat run` processes, each of which starts from nothing.

python benchmarks/sweep.py            # one process for each arm, its time counted for every seed
python benchmarks/sweep.py --all      # every one of them
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.progress import track
from shared.verdict import report

from qat.lab.sweep.study import Trial, load_study

STUDY = Path(__file__).parent.parent / "experiments" / "quickstart.py"
CONFIG = """from qat.lab.experiment.config import ExperimentConfig


def get_config():
    return ExperimentConfig.model_validate_json({text!r})
"""


def main() -> None:
    """Print the sweep's wall time as a share of that of separate runs."""
    trials = load_study(STUDY, {}).trials
    seeds = {trial.config.seed for trial in trials}
    chosen = trials if "--all" in sys.argv else [t for t in trials if t.config.seed == min(seeds)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        together = _seconds("sweep", STUDY, "--runs", folder / "sweep")
        apart = [_alone(trial, folder) for trial in track(chosen, "separate runs", transient=True)]
    total = sum(apart) * len(trials) / len(chosen)
    title = f"{len(trials)} trials: {together:.0f} s in one sweep, {total:.0f} s one by one ({len(chosen)} measured)"
    report(title, [("one sweep / separate runs", together / total, 0.35)])


def _alone(trial: Trial, folder: Path) -> float:
    config = folder / f"{trial.id}.py"
    config.write_text(CONFIG.format(text=trial.config.model_dump_json(exclude_unset=True)))
    return _seconds("run", config, "--runs", folder / trial.id)


def _seconds(*arguments: str | Path) -> float:
    """Wall time of a `qat` command."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "qat", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
