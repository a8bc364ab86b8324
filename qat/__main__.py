"""The command line: `qat`, or `python -m qat`."""

import sys


def main() -> None:
    """Run the command that the arguments name; one clear line and exit code 2 where a package of the lab is missing."""
    if sys.argv[1:] == ["--version"]:
        from qat import __version__

        print(f"qat {__version__}")  # noqa: T201  # without the command line's packages, which may be missing
        return
    try:
        from qat.lab.cli import app
    except ModuleNotFoundError as error:
        from qat.registry import missing_extra

        said = missing_extra(error, "lab")
        if said is None:
            raise
        sys.exit(_refused(f"the command line needs more than the core: {said}"))
    app()


def _refused(message: str) -> int:
    print(f"Error: {message}", file=sys.stderr)  # noqa: T201
    return 2


if __name__ == "__main__":
    main()
