"""Files of converted models and of calibrations, and exporters, which write models for other runtimes.

export_model("model.stablehlo", q, converted, x, to="stablehlo")   # and "onnx", "safetensors"; float models too
run = read("model.stablehlo")                                      # run(x) equals q.serve(converted, x)

Adding an exporter is adding a file to `qat/export/formats` with a registered function.
"""

from qat.export.exported import export_model, read, write
from qat.export.exporter import Artifact, Exportable, Exported, Exporter, exporters, register
from qat.export.formats.stablehlo import load_stablehlo
from qat.export.runnable import Runnable

__all__ = [
    "Artifact",
    "Exportable",
    "Exported",
    "Exporter",
    "Runnable",
    "export_model",
    "exporters",
    "load_stablehlo",
    "read",
    "register",
    "write",
]
