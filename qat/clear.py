"""What the user can mend is told in one message, without a traceback."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from qat.mistake import place, told


@contextmanager
def one_clear_error() -> Iterator[None]:
    """Turn what the user can mend into a message on stderr and exit code 2; anything else keeps its traceback."""
    try:
        yield
    except (ValueError, OSError, FloatingPointError) as error:
        message = _message(error)
        if message is None:
            raise
        typer.secho(f"Error: {message}", fg="red", err=True)
        raise typer.Exit(2) from None
    except SystemExit as error:  # of a file or a model of the user: nothing of ours ends the process
        found = place(error)
        typer.secho(f"Error: {told(error)}{f' ({found})' if found else ''}", fg="red", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("Stopped. Run the same command again to continue where it was.", err=True)
        raise typer.Exit(130) from None


def _message(error: Exception) -> str | None:
    """The message of an error that qat raised on purpose or that the disk is to blame for, else None."""
    from qat.storage import refusal

    refused = refusal(error)
    if refused:
        return refused
    last = traceback.extract_tb(error.__traceback__)[-1]
    ours = Path(last.filename).is_relative_to(Path(__file__).parent)
    return str(error) if ours or isinstance(error, OSError) else None
