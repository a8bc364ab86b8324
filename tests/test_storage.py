"""Addresses of run folders: known kinds alone."""

import pytest
from typer.testing import CliRunner

from qat.fileio import folder
from qat.lab.cli import app


@pytest.mark.parametrize("address", ["://x", "foo://x", "C://runs", "1://x"])
def test_an_address_of_no_known_kind_is_refused_by_name(address):
    with pytest.raises(ValueError, match=rf"must be a local path, or an address such as gs://bucket/runs.*'{address}'"):
        folder(address)
    for command in ("status", "report", "mcnemar"):
        found = CliRunner().invoke(app, [command, address])
        assert found.exit_code == 2 and address in found.stderr and "Traceback" not in found.output
