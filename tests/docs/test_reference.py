"""Each public name of the package has a place in the reference, and a docstring."""

import importlib
import re
import tomllib

import pytest
from sitegen.reference import reference_pages
from sitegen.source import ROOT, documented, public

import qat

PUBLIC = public()
PAGES = reference_pages()


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_has_a_page_and_a_docstring(module):
    page = PAGES[f"reference/{module}.md"]
    assert [name for name in PUBLIC[module] if f"::: {module}.{name}\n" not in page] == []
    assert [name for name in PUBLIC[module] if not documented(module, name)] == []


@pytest.mark.parametrize("module", [name for name in PUBLIC if name not in ("qat", "qat.lab")])
def test_the_names_read_from_the_source_are_those_that_can_be_imported(module):
    found = importlib.import_module(module)
    assert [name for name in PUBLIC[module] if not hasattr(found, name)] == []
    assert set(getattr(found, "__all__", PUBLIC[module])) == set(PUBLIC[module])


def test_the_names_of_the_front_door_are_all_there():
    assert set(qat.__all__) == set(PUBLIC["qat"]) | set(qat._WINGS)
    wings = {place for place in qat._WINGS.values() if place not in ("qat.lab", "qat.recipes")}
    assert wings <= set(PUBLIC)


def test_a_name_without_a_docstring_is_found():
    assert not documented("qat.data", "no_such_name")
    assert not documented("qat.observers", "load_members_of_nothing")
    assert documented("qat.observers", "Observer")


def test_the_reference_and_the_table_of_commands_have_the_same():
    told = set(re.findall(r"^## qat ([\w-]+)$", PAGES["reference/commands.md"], re.MULTILINE))
    page = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `qat (\w[\w-]*)", page, re.MULTILINE)) == told


def test_the_citation_has_the_version_and_the_licence_of_the_package():
    cited = dict(line.split(": ", 1) for line in (ROOT / "CITATION.cff").read_text().splitlines() if ": " in line)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert cited["version"] == qat.__version__
    assert cited["license"] == project["license"]
