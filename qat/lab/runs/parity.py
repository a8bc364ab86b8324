"""Certificates of parity on disk: `parity.json` beside exported files, with the newest certificate of each."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qat.export.parity import Certificate
from qat.export.parity.certificate import as_data, from_data
from qat.fileio import write_atomically
from qat.lab.runs.files import PARITY_FILE

REDO = "Remove it, and run `qat parity` again."


def write_parity(file: Path, certificate: Certificate) -> Path:
    """Write the certificate of an exported file beside it, in the place of an older one; return where.

    Certificates of other files stay. Raises `ValueError` where those that are there cannot be read.
    """
    path = file.parent / PARITY_FILE
    content = {**_read(path), certificate.file: as_data(certificate)}
    write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return path


def read_parity(folder: Path) -> dict[str, Certificate]:
    """The certificates in a folder by exported file; none where there is no file of them. Raises `ValueError` for a
    damaged one."""
    path = folder / PARITY_FILE
    try:
        return {str(file): from_data(one) for file, one in _read(path).items()}
    except ValueError as error:
        raise ValueError(_damaged(path, error)) from None


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it holds no object")
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise ValueError(_damaged(path, error)) from None
    return found


def _damaged(path: Path, error: Exception) -> str:
    said = str(error)
    return said if str(path) in said else f"{str(path)!r} is damaged ({said}). {REDO}"
