"""Every block of Python in the documentation runs, or says why it does not; every command names what there is."""

import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest
from ownparts import forgotten
from sitegen.source import ROOT
from typer.main import get_command
from typer.testing import CliRunner

from qat import registry
from qat.lab.cli import app
from qat.observers import observers

DOCS = ROOT / "docs"
PAGES = {str(path.relative_to(DOCS)): path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))}
BLOCK = re.compile(r"(?:<!-- not run: (?P<reason>[^>]+) -->\n)?```python\n(?P<code>.*?)```", re.DOTALL)
ELSEWHERE = {
    "models.md": "a study, run by test_docs_models.py",
    "extend.md": "files of a study, run below",
    "start/training.md": "loops, run by test_docs_training.py",
}
SLOW = {"concepts/bit-for-bit.md", "start/my-model.md"}
SHELL = re.compile(r"```bash\n(.*?)```", re.DOTALL)
COMMANDS = get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]
LONGEST = 30


def blocks(page):
    return [(match["code"], match["reason"]) for match in BLOCK.finditer(PAGES[page])]


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if page in SLOW else [])
        for page in PAGES
        if blocks(page) and page not in ELSEWHERE
    ],
)
def test_the_blocks_of_a_page_run_one_after_another(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    with forgotten():
        for code, reason in blocks(page):
            if reason is None:
                exec(compile(code, page, "exec"), names)


def test_few_blocks_are_left_out_and_each_says_why():
    reasons = [reason for page in PAGES for _, reason in blocks(page) if reason is not None]
    assert all(len(reason.split()) > 3 for reason in reasons)
    assert len(reasons) <= 2


def files_of(page):
    """The files that a page's blocks are, by the name in their first line."""
    found = {}
    for code, _ in blocks(page):
        head, _, text = code.partition("\n")
        found[re.fullmatch(r"# (\w+\.py)", head)[1]] = text  # pyright: ignore[reportOptionalSubscript]
    return found


def test_own_parts_are_short_files():
    assert {
        name: len(text.splitlines()) for name, text in files_of("extend.md").items() if text.count("\n") > LONGEST
    } == {}


@pytest.fixture
def extended(tmp_path, monkeypatch):
    """The folder of the page on extending, whose modules are forgotten afterwards."""
    files = files_of("extend.md")
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    with forgotten():
        yield tmp_path
    for name in files:
        sys.modules.pop(Path(name).stem, None)


@pytest.mark.slow
def test_all_own_parts_work_in_one_study(extended):
    command = re.findall(r"qat (sweep study.py .*)", PAGES["extend.md"])[0]
    done = CliRunner().invoke(app, [*shlex.split(command), "--runs", "runs"])
    assert done.exit_code == 0, done.output
    [line] = (extended / "runs" / "lines.jsonl").read_text().splitlines()
    assert '"right"' in line
    record = next((extended / "runs").glob("trials/*/record.json")).read_text()
    assert '"trim(deviations=3.0)"' in record


def test_the_own_exporter_writes_and_reads(extended, monkeypatch):
    import jax
    import jax.numpy as jnp

    import qat

    monkeypatch.syspath_prepend(str(extended))
    __import__("arrays")
    w, x = jnp.ones((4, 3)), jnp.ones((2, 4))
    q = qat.quantize(lambda params, x: x @ params["w"], qat.recipe("w8a8"))
    int8 = q.convert({"w": w}, q.calibrate({"w": w}, [x]), x)
    qat.export.export_model("model.npz", q, int8, x, to="arrays")
    found = qat.export.read("model.npz")
    assert sorted(map(jnp.shape, found.values())) == sorted(map(jnp.shape, jax.tree.leaves(int8)))


def commands():
    """Every call of qat in a block of shell lines: page, command, and the words behind it."""
    for page, text in PAGES.items():
        for block in SHELL.findall(text):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if "qat" in words:
                    place = words.index("qat")
                    yield page, words[place + 1], words[place + 2 :]


def test_every_command_is_one_that_there_is_with_options_that_it_has():
    for page, name, words in commands():
        assert name in COMMANDS, f"{page}: qat {name}"
        known = {option for one in COMMANDS[name].params for option in one.opts}
        assert {word for word in words if word.startswith("--")} <= known, f"{page}: qat {name}"


def test_commands_named_in_sentences_are_there():
    for page, text in PAGES.items():
        named = set(re.findall(r"`qat ([a-z][a-z-]*)", text)) - {"COMMAND"}
        assert named <= set(COMMANDS), f"{page}: {named - set(COMMANDS)}"


def test_the_own_observer_works_as_an_installed_plugin(extended, monkeypatch):
    [table] = re.findall(r"```toml\n(.*?)```", PAGES["extend.md"], re.DOTALL)
    about = tomllib.loads(table)["project"]
    info = extended / f"my_observers-{about['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Name: {about['name']}\nVersion: {about['version']}\n")
    points = about["entry-points"]["qat.plugins"]
    lines = "".join(f"{name} = {module}\n" for name, module in points.items())
    (info / "entry_points.txt").write_text(f"[qat.plugins]\n{lines}")
    monkeypatch.syspath_prepend(str(extended))
    registry._plugins.cache_clear()
    try:
        assert "mean_max" in observers.names()
        observers.build("mean_max(share=0.9)")
    finally:
        monkeypatch.undo()
        registry._plugins.cache_clear()
