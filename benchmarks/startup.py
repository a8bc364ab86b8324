"""Import and command-line start, in fresh processes.

python benchmarks/startup.py
"""

import subprocess
import sys
from pathlib import Path

from shared.timing import best
from shared.verdict import report


def main() -> None:
    """Print `import qat` against `import jax`, with qat's public names used too, and the seconds of `qat --help`."""

    def python(code: str):
        return lambda: subprocess.run([sys.executable, "-c", code], check=True)

    command = str(Path(sys.executable).with_name("qat"))
    seconds = best(
        {
            "jax": python("import jax"),
            "qat": python("import qat"),
            "used": python("import qat; qat.quantize, qat.recipe, qat.load"),
            "help": lambda: subprocess.run([command, "--help"], check=True, stdout=subprocess.DEVNULL),
        }
    )
    report(
        f"start, `import jax` {seconds['jax']:.2f} s",
        [
            ("`import qat` / `import jax`", seconds["qat"] / seconds["jax"], 1.3),
            ("`import qat` with its names used / `import jax`", seconds["used"] / seconds["jax"], None),
            ("`qat --help`, s", seconds["help"], 1.0),
        ],
    )


if __name__ == "__main__":
    main()
