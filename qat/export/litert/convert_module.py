"""A script for the Python that has litert-converter: a StableHLO module in, a flatbuffer out.

python convert_module.py MODULE FLATBUFFER NAMES, where NAMES is JSON of the lists `inputs` and `outputs`. It runs in an
environment of its own and imports nothing of this package, nor does this package import it.
"""

import importlib
import json
import sys
from pathlib import Path


def main(source: str, target: str, names: str) -> None:
    """Convert one module. Quantizers are taken as they stand: an operator computes in integers where all its operands
    and its result have one, and no other quantizer is made up."""
    ir = importlib.import_module("litert_converter.mlir.ir")
    passes = importlib.import_module("litert_converter.mlir.passmanager")
    api = importlib.import_module("litert_converter.converter_api_ext")
    context = ir.Context()
    api.prepare_mlir_context(context)
    with context:
        module = ir.Module.parse(Path(source).read_bytes())
        told = json.loads(names)
        api.set_signature(module.operation, "serving_default", told["inputs"], told["outputs"])
        config = api.ConvertToTFLConfig()
        config.strict_qdq_mode = True
        api.run_convert_to_tfl_passes(module, passes.PassManager(), config)
        Path(target).write_bytes(api.export_flatbuffer_to_bytes(module.operation))


if __name__ == "__main__":
    main(*sys.argv[1:])
