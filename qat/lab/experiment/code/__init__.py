"""The code that a result is made by: which files run, and digests that change with what they do."""

from qat.lab.experiment.code.closure import NOT_COMPUTING, Code, code_of, needed
from qat.lab.experiment.code.digest import PACKAGE, code_digest
from qat.lab.experiment.code.reload import load_anew, snapshot

__all__ = ["NOT_COMPUTING", "PACKAGE", "Code", "code_digest", "code_of", "load_anew", "needed", "snapshot"]
