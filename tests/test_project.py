# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportArgumentType=false, reportCallIssue=false
"""The project's own rules: the layout of `docs/architecture.md`, sizes, pinned versions without hosts, no paths of a
machine."""

import ast
import functools
import itertools
import os
import re
import shutil
import statistics
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
MOST_LINES = 300
MOST_ENTRIES = 20
PLUMBING = {"__init__", "__main__", "py.typed"}


def table(heading):
    """The rows of the table of `docs/architecture.md` whose first column has that heading, as lists of cells."""
    lines = PAGE.split(f"| {heading} |", 1)[1].splitlines()[2:]
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


@functools.cache
def places():
    """By room its level, its place in the level's order, and its side: 0 quantizes, 1 is the float side, None both."""
    found = {}
    for level, rooms in table("level"):
        sides = rooms.split("//")
        for side, part in enumerate(sides):
            for order, group in enumerate(part.split("<")):
                for room in filter(None, (name.strip() for name in group.split(","))):
                    found[room] = (int(level), order, side if len(sides) > 1 else None)
    return found


QUANTIZING = {
    "numerics",
    "observers",
    "quantizers",
    "engines",
    "recipes",
    "core",
    "transform",
    "analysis",
    "ptq",
    "export",
}
FLOAT_SIDE = {"tasks", "train", "models", "data"}


def tracked():
    """Files of the project that git knows or would take."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.check_output(command, cwd=ROOT, text=True).split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def dotted(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room_of(name):
    """The room that a module of `qat` is in: an entry of `qat/`, or one of `qat/lab/`."""
    parts = name.split(".")[1:]
    return ".".join(parts[:2]) if parts[:1] == ["lab"] else "".join(parts[:1])


FOLDERS = ("qat", "configs", "experiments", "tests", "benchmarks")
PYTHON = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
FILES = {dotted(path): path for path in PYTHON if path.is_relative_to(ROOT / "qat")}
MODULES = [path for name, path in FILES.items() if room_of(name) not in ("", "__main__", "lab")]


@functools.cache
def imported(path):
    """The modules of `qat` that a file names in an import, for type checkers alone or in a function too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("qat.")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "qat":
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in FILES else node.module for name in names}
    return found - {dotted(path)}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards_only(path):
    own = room_of(dotted(path))
    assert own in places(), f"{own} has no level: give it one in docs/architecture.md"
    for name in imported(path):
        other = room_of(name)
        if other in ("", own):
            continue
        assert other in places(), f"{own} imports {other}, which has no level"
        assert not (other in FLOAT_SIDE and own in QUANTIZING), f"{own} may not know {other}: it is of the float side"
        assert not (own in FLOAT_SIDE and other in QUANTIZING), f"{own} may not know {other}: it quantizes"
        assert places()[other][:2] < places()[own][:2], f"{own} imports {name}, which does not stand below it"
        if own == "lab.jobs":
            assert other in ("fileio", "registry"), f"the job engine may not know {other}"


def test_no_files_import_each_other_in_a_circle():
    colours = {}

    def visit(name, trail):
        colours[name] = "open"
        for other in sorted(imported(FILES[name])):
            if other not in FILES or other == "qat":
                continue
            assert colours.get(other) != "open", f"a circle: {' -> '.join([*trail, name, other])}"
            if other not in colours:
                visit(other, [*trail, name])
        colours[name] = "done"

    for name in FILES:
        if name not in colours:
            visit(name, [])


def test_the_entries_of_the_package_are_those_of_the_architecture_page():
    entries = {path.name.removesuffix(".py") for path in (ROOT / "qat").iterdir() if path.name != "__pycache__"}
    told = {name for _, names, _ in table("wing") for name in re.findall(r"`(\w+)`", names)}
    assert entries - PLUMBING == told
    assert len(entries - {"py.typed"}) <= MOST_ENTRIES


def test_no_level_is_for_a_room_that_is_gone():
    assert {room_of(dotted(path)) for path in MODULES} == set(places())


def test_modules_are_large_enough_to_find_one_s_way():
    sizes = [len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES if path.name != "__init__.py"]
    assert statistics.median(sizes) >= 100
    assert sum(size < 60 for size in sizes) <= 0.15 * len(sizes)


def test_no_two_test_modules_have_one_name():
    names = [path.name for path in PYTHON if path.is_relative_to(ROOT / "tests") and path.name.startswith("test_")]
    assert sorted(names) == sorted(set(names))


def test_one_file_alone_imports_aqt():
    importers = [path for path in MODULES if re.search(r"^\s*(from|import) aqt", path.read_text(), re.MULTILINE)]
    assert [path.relative_to(ROOT) for path in importers] == [Path("qat/engines/aqt.py")]


def test_modules_are_short_enough_to_have_one_job():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in PYTHON}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


def documented(path):
    """Yield the name and docstring (None where missing) of each public module, class, function and method of a file."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    yield "module", ast.get_docstring(module)
    holders = [("", module)]
    while holders:
        prefix, holder = holders.pop()
        for node in holder.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                yield prefix + node.name, ast.get_docstring(node)
                if isinstance(node, ast.ClassDef):
                    holders.append((f"{prefix}{node.name}.", node))


DIALECT = re.compile(
    r"(What|Those|That|The same|Which|Where|When|How|Its|It|They|As|So|And|Of|By|For|To|In|On|Some|Nothing)\b"
)


def test_dialect_is_told_from_plain_english():
    for opening in (
        "What is known of a value.",
        "Those of all files.",
        "That of the page.",
        "The same in int8.",
        "For the terminal.",
    ):
        assert DIALECT.match(opening)
    for opening in ("Drop padding boxes (label -1).", "Whether a job is done.", "Whatever", "Asked by no one."):
        assert not DIALECT.match(opening)


@pytest.mark.parametrize("path", FILES.values(), ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_open_with_what_a_stranger_understands(path):
    found = list(documented(path))
    assert [name for name, text in found if not text] == []
    assert {name: text.splitlines()[0] for name, text in found if DIALECT.match(text)} == {}


def comment_lines(path):
    """The lines of a file that hold a comment for people."""
    with path.open(encoding="utf-8") as file:
        tokens = [t for t in tokenize.generate_tokens(file.readline) if t.type == tokenize.COMMENT]
    return {t.start[0] for t in tokens if not re.match(r"#\s*(noqa|pyright|type:)", t.string)}


@pytest.mark.parametrize("folder", ["qat/core/jaxpr", "qat/lab/jobs"])
def test_comments_say_why_where_the_code_is_hard(folder):
    paths = [path for path in FILES.values() if path.is_relative_to(ROOT / folder)]
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)
    assert sum(len(comment_lines(path)) for path in paths) >= 0.05 * lines


def test_pinned_versions_name_no_host_and_no_place():
    for name in ("requirements.lock", "requirements-dev.lock"):
        for line in (ROOT / name).read_text().splitlines():
            assert re.fullmatch(r"[a-z0-9._-]+(\[[a-z0-9,-]+\])?==[\w.+!]+( ; .+)?", line), f"{name}: {line}"


def test_development_pins_extend_the_others():
    names = ("requirements.lock", "requirements-dev.lock")
    pins, more = (set((ROOT / name).read_text().splitlines()) for name in names)
    # A package that one list needs on a single system may be needed on all of them by the other.
    assert all(pin in more or pin.split(" ; ")[0] in more for pin in pins)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_no_file_names_a_place_on_this_machine():
    places = [f"{Path.home()}/", f"{ROOT.parent}/"]
    found = [
        f"{path.relative_to(ROOT)}: {place}"
        for path in tracked()
        for place in places
        if place != "//" and place.encode() in path.read_bytes()
    ]
    assert found == []


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("target", ["demo", "test"])
def test_an_old_python_is_told_so_with_how_to_name_another(tmp_path, target):
    for path in (ROOT / "Makefile", ROOT / "pyproject.toml", *ROOT.glob("*.lock")):
        shutil.copy(path, tmp_path)
    old = tmp_path / "oldpython"
    old.write_text('#!/bin/sh\ntest "$1" = --version && echo Python 3.8.18\nexit 1\n')
    old.chmod(0o755)
    done = subprocess.run(["make", target, f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "needs Python 3.12 or newer" in done.stderr
    assert "Python 3.8.18" in done.stderr
    assert f"make PYTHON=python3.13 {target}" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_importing_qat_is_light():
    code = "import sys, qat, qat.lab; print([name for name in ('jax', 'numpy', 'flax') if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.check_output([sys.executable, "-c", code], text=True, env=environment).strip() == "[]"


def test_every_line_of_the_slow_tests_names_one_that_is_there():
    lines = (ROOT / "tests" / "slow.txt").read_text(encoding="utf-8").splitlines()
    assert lines[2:] == sorted(set(lines[2:]))
    for line in lines[2:]:
        path, _, test = line.partition("::")
        assert (ROOT / "tests" / path).exists(), line
        name = test.partition("[")[0]
        assert not name or f"def {name}(" in (ROOT / "tests" / path).read_text(encoding="utf-8"), line
