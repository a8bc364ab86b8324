"""The project's own rules: layers, sizes, pinned versions without hosts, no paths of a machine."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MOST_LINES = 300

# Imports point to the same level or downwards. `side` is the branch of float models, data and training, which knows
# the registry alone; every level from `experiment` on may use it.
LEVELS = {
    "foundation": [
        "arguments",
        "numerics", "jaxpr", "registry", "storage", "packing", "bundle", "trees", "artifact", "compiled", "latency",
        "batches", "memory", "mistake", "sealed", "threads",
    ],
    "members": ["observers", "quantizers"],
    "recipes": ["recipes", "presets", "engines"],
    "transform": [
        "plan", "tensors", "layout", "sites", "state", "ranges", "weights", "product", "simulate", "calibrate",
        "convert", "transform", "store", "tables", "wellformed",
    ],
    "analysis": ["analysis"],
    "experiment": ["code", "config", "files", "signature", "objective", "pipeline", "record", "manifest", "superseded"],
    "study": ["sweep", "stats", "report", "results", "sinks", "detect", "texts"],
    "command": ["cli", "clear"],
}  # fmt: skip
SIDE = ["models", "data", "train", "tasks", "detection", "pretrained"]
HEIGHT = {module: height for height, modules in enumerate(LEVELS.values()) for module in modules}


def tracked():
    """Files of the project that git knows or would take."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.check_output(command, cwd=ROOT, text=True).split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def unit(path):
    """The module or package of `qat` that a file belongs to."""
    return path.relative_to(ROOT / "qat").parts[0].removesuffix(".py")


def imported(path):
    """The modules and packages of `qat` that a file imports when it runs; not those named for type checkers alone."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("qat."))


FOLDERS = ("qat", "configs", "experiments", "tests", "benchmarks")
PYTHON = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
MODULES = [path for path in PYTHON if path.is_relative_to(ROOT / "qat") and unit(path) != "__init__"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards_only(path):
    own = unit(path)
    assert own in HEIGHT or own in SIDE, f"{own} has no level: give it one in LEVELS"
    for other in imported(path):
        assert other in HEIGHT or other in SIDE, f"{own} imports {other}, which has no level"
        if own in SIDE:
            assert other in [*SIDE, "registry"], f"{own} may not know {other}"
        elif other in SIDE:
            assert HEIGHT[own] >= HEIGHT["config"], f"{own} may not know {other}"
        else:
            assert HEIGHT[other] <= HEIGHT[own], f"{own} imports {other}, which stands above it"


def test_no_level_is_for_a_module_that_is_gone():
    assert {unit(path) for path in MODULES} >= {*HEIGHT, *SIDE}


def test_one_file_alone_imports_aqt():
    importers = [path for path in MODULES if re.search(r"^\s*(from|import) aqt", path.read_text(), re.MULTILINE)]
    assert [path.relative_to(ROOT) for path in importers] == [Path("qat/engines/aqt.py")]


def test_modules_are_short_enough_to_have_one_job():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in PYTHON}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


def test_pinned_versions_name_no_host_and_no_place():
    for name in ("requirements.lock", "requirements-dev.lock"):
        for line in (ROOT / name).read_text().splitlines():
            assert re.fullmatch(r"[a-z0-9._-]+(\[[a-z0-9,-]+\])?==[\w.+!]+( ; .+)?", line), f"{name}: {line}"


def test_development_pins_extend_the_others():
    pins = [set((ROOT / name).read_text().splitlines()) for name in ("requirements.lock", "requirements-dev.lock")]
    assert pins[0] <= pins[1]


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
    code = "import sys, qat; print([name for name in ('jax', 'numpy', 'flax') if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.check_output([sys.executable, "-c", code], text=True, env=environment).strip() == "[]"
