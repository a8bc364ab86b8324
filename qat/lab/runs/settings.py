"""The settings of a trial (`config.json`) and the parts of a stage's or trial's key (`key.json`) on disk."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qat.fileio import write_atomically
from qat.lab.runs.files import CONFIG_FILE, KEY_FILE, REDO_TRIAL

type Json = dict[str, Any]


def write_config(folder: Path, settings: str) -> None:
    """Write a trial's settings, JSON already, into its folder."""
    write_atomically(folder / CONFIG_FILE, settings + "\n")


def read_config(folder: Path) -> Json | None:
    """The settings of the trial in `folder`, None where it has none yet. Raises `ValueError` for a damaged file or one
    that cannot be read, which it names."""
    path = folder / CONFIG_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError:
        raise ValueError(f"{str(path)!r} is damaged (it is not text). {REDO_TRIAL}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is damaged ({error}). {REDO_TRIAL}") from None
    except OSError as error:
        raise ValueError(f"{str(path)!r} cannot be read ({error.strerror or error}).") from None
    if not isinstance(found, dict):
        raise ValueError(f"{str(path)!r} is damaged (it holds no settings). {REDO_TRIAL}")
    return found


def config_of(folder: Path) -> Json:
    """The settings of the trial in `folder`, which must have some with a model and data. Raises `ValueError`."""
    found, path = read_config(folder), folder / CONFIG_FILE
    if found is None:
        raise ValueError(f"{str(path)!r} is missing. Name a folder such as RUNS/trials/NAME that a sweep made.")
    for name in ("model", "data"):
        if not isinstance(found.get(name), str):
            raise ValueError(f"{str(path)!r} is damaged (it names no {name}). {REDO_TRIAL}")
    return found


def write_key(folder: Path, key: str, parts: Mapping[str, Any]) -> None:
    """Write the key of the stage or trial in `folder` and what it is a digest of, by name."""
    write_atomically(folder / KEY_FILE, json.dumps({"key": key, **parts}, indent=2) + "\n")


def read_key(folder: Path) -> Json | None:
    """The key of the stage or trial in `folder` with its parts; None where none can be read, as of older ones."""
    try:
        found = json.loads((folder / KEY_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
