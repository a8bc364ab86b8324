"""The studies under a path, and a file of each of their trials."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from qat.fileio import folder, is_local
from qat.lab.runs.files import fault, sealed_by
from qat.lab.runs.record import RECORD_FILE
from qat.lab.runs.study_folder import STUDY_FILE, StudyFolder, read_study

READERS = 32  # files at once from storage that is not local, where each takes a round trip


@dataclass(frozen=True)
class Studies:
    """Studies by a name that tells them apart, and what is wrong with those that could not be read."""

    found: dict[str, StudyFolder]
    damaged: tuple[str, ...]

    def trials(self) -> Iterator[tuple[str, str, Path]]:
        """Study, id and folder of every trial, in order."""
        for name, study in self.found.items():
            for trial in study.trials:
                yield name, trial, study.trial(trial)


def find(path: str | Path) -> Studies:
    """The study that a folder is, or all that lie directly in it. Raises `ValueError` where there is none."""
    root = folder(path)
    if (root / STUDY_FILE).exists():
        study = read_study(root)
        return Studies({study.name: study}, ())
    found, damaged = [], []
    children = sorted(root.iterdir()) if root.is_dir() else []
    for child in (child for child in children if (child / STUDY_FILE).exists()):
        try:
            found.append(read_study(child))
        except ValueError as error:
            damaged.append(str(error))
    if not found and not damaged:
        raise ValueError(
            f"`path` must be the folder of a study, or hold such folders, but there is no {STUDY_FILE} in "
            f"{str(path)!r} nor in the folders in it. Run `qat sweep FILE --runs FOLDER` and name FOLDER."
        )
    names = [study.name for study in found]
    unique = [one.name if names.count(one.name) == 1 else f"{one.name} ({one.root.name})" for one in found]
    return Studies(dict(zip(unique, found, strict=True)), tuple(damaged))


def read_all[T](studies: Studies, read: Callable[[Path], T]) -> Iterable[tuple[str, str, T]]:
    """Study, trial and what `read` makes of the trial's folder, in order."""
    trials = list(studies.trials())
    folders = [place for _, _, place in trials]
    if all(is_local(study.root) for study in studies.found.values()):
        results: Iterable[T] = map(read, folders)
    else:
        with ThreadPoolExecutor(READERS) as pool:
            results = list(pool.map(read, folders))
    return ((study, trial, result) for (study, trial, _), result in zip(trials, results, strict=True))


@dataclass(frozen=True)
class Found:
    """Rows from a file of one trial, and what is wrong with the file."""

    rows: Sequence[tuple]
    problems: Sequence[str] = ()


def long_frame(path: str | Path, file: str, columns: Sequence[str], parse: Callable[[str], Found]) -> pd.DataFrame:
    """All trials' rows under each other, behind columns `study` and `trial`; trials without the file have none."""
    studies = find(path)
    rows, damaged = [], list(studies.damaged)
    for study, trial, found in read_all(studies, lambda place: _read(place / file, parse)):
        rows += [(study, trial, *row) for row in found.rows]
        damaged += found.problems
    frame = pd.DataFrame.from_records(rows, columns=["study", "trial", *columns])
    frame.attrs = {"damaged": damaged}
    return frame


def _text_of(path: Path) -> str | None:
    """The text of a file, None where there is none. Raises `ValueError` that names it where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError:
        raise ValueError(f"{str(path)!r} is damaged (it is not text).") from None
    except OSError as error:
        raise ValueError(f"{str(path)!r} cannot be read ({error.strerror or error}).") from None


def _read(path: Path, parse: Callable[[str], Found]) -> Found:
    if line := fault(path, sealed_by(path.with_name(RECORD_FILE))):
        return Found((), (line,))
    try:
        text = _text_of(path)
    except ValueError as error:
        return Found((), (str(error),))
    found = Found(()) if text is None else parse(text)
    return Found(found.rows, tuple(f"{str(path)!r} is damaged ({problem})." for problem in found.problems))
