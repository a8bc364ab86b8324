"""What an installation without extras can do, and what it says of the rest."""

import importlib.metadata
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import qat
from qat.registry import EXTRAS, missing_extra

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BROUGHT = ["jaxlib", "scipy", "ml_dtypes", "opt_einsum", "markdown_it", "mdurl", "pygments", "wadler_lindig"]
"""Modules that the core's own packages bring."""

ALONE = """
import importlib.machinery, sys

class Installed(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        top = name.split(".")[0]
        known = top in sys.stdlib_module_names or top in KNOWN or top.startswith("_sysconfigdata")
        return super().find_spec(name, path, target) if known else None

own = ("BuiltinImporter", "FrozenImporter")
sys.meta_path[:] = [one for one in sys.meta_path if getattr(one, "__name__", "") in own] + [Installed]
"""
USE = """
import jax, qat

def fn(params, x):
    return jax.nn.relu(x @ params["a"]) @ params["b"]

key = jax.random.key(0)
params = {"a": jax.random.normal(key, (8, 16)), "b": jax.random.normal(key, (16, 4))}
x = jax.random.normal(key, (5, 8))
q = qat.quantize(fn, qat.recipe("w8a8"))
state = q.calibrate(params, [x])
qat.save(sys.argv[1], q.convert(params, state, x))
assert (q.serve(qat.load(sys.argv[1]), x) == q.simulate(params, state, x)).all()
assert str(q.sites(params, x))
for wing in ("analysis", "engines", "export", "observers", "ptq", "quantizers", "recipes"):
    getattr(qat, wing)
print(q.engine)
for wing in ("train", "data", "models", "tasks", "results"):
    try:
        getattr(qat, wing)
    except ModuleNotFoundError as error:
        print(wing, error)
try:
    qat.data.build("digits")
except ValueError as error:
    print(error)
try:
    qat.quantize(fn, qat.recipe("w8a8"), engine="aqt")
except ValueError as error:
    print(error)
"""


def core_alone(code, *arguments):
    """A process that finds what the core's installation brings, and nothing else."""
    named = [requirement.split(">")[0].split("[")[0] for requirement in PROJECT["dependencies"]]
    start = f"KNOWN = {[*named, *BROUGHT, 'qat']}\n{ALONE}"
    return subprocess.run(
        [sys.executable, "-c", start + code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_core_alone_quantizes_and_other_wings_name_their_extra(tmp_path):
    done = core_alone(USE, tmp_path / "model.safetensors")
    assert done.returncode == 0, done.stderr
    engine, *lines = done.stdout.splitlines()
    assert engine == "integer"
    extras = {"train": "train", "models": "train", "results": "lab"}
    said = {line.split()[0]: line for line in lines[:-2]}
    assert set(said) == set(extras)
    for wing, extra in extras.items():
        assert said[wing].endswith(f"pip install 'jax-qat[{extra}]'")
        assert f"`qat.{wing}` needs more than the core: the package" in said[wing]
    assert lines[-2].startswith("data set 'digits': the package sklearn is not installed.")
    assert "pip install 'jax-qat[data]'" in lines[-2]
    assert "pip install 'jax-qat[aqt]', or choose engine 'integer'" in lines[-1]


@pytest.mark.parametrize("arguments", [["--help"], ["sweep", "study.py"]], ids=lambda arguments: arguments[0])
def test_the_command_line_without_the_lab_is_one_clear_line(arguments):
    done = core_alone("from qat.__main__ import main; main()", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "Error: the command line needs more than the core: the package typer is not installed. "
        "Install what is missing: pip install 'jax-qat[lab]'"
    ]


def test_the_version_is_told_with_and_without_the_lab():
    code = "from qat.__main__ import main; main()"
    assert core_alone(code, "--version").stdout == f"qat {qat.__version__}\n"
    command = [sys.executable, "-m", "qat", "--version"]
    assert subprocess.check_output(command, text=True, cwd=ROOT) == f"qat {qat.__version__}\n"


def test_every_package_that_messages_name_is_in_its_extra():
    owners = importlib.metadata.packages_distributions()
    optional = PROJECT["optional-dependencies"]

    def plain(name):
        return name.lower().replace("_", "-")

    for extra, modules in EXTRAS.items():
        named = {plain(text.split(">")[0].split("[")[0]) for text in optional[extra]} | {"fsspec"}
        assert {plain(owners[module][0]) for module in modules} <= named, extra


def test_the_lab_has_all_that_its_parts_need():
    assert "jax-qat[aqt,data,tfds,train]" in PROJECT["optional-dependencies"]["lab"]
    assert any("lab" in text.split("[")[1] for text in PROJECT["optional-dependencies"]["dev"] if "jax-qat[" in text)


def test_a_package_that_a_study_imports_is_none_of_the_extras():
    with pytest.raises(ModuleNotFoundError) as caught:
        exec(compile("import pandas_that_is_not_there", "study.py", "exec"))
    assert missing_extra(caught.value) is None
    assert missing_extra(caught.value, "lab") is None
