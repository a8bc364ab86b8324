"""The statistics of layers as a table for the terminal."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

KINDS = ("weight", "activation")


def layers_table(layers: Any) -> Table:
    """A row for each site: bits, clipping and noise of its weights, then of its activations, or why it is in float."""
    table = Table(title="layers", title_justify="left", caption_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("path", overflow="fold")
    table.add_column("op", no_wrap=True)
    for name in [f"{kind[0]} {what}" for kind in KINDS for what in ("bits", "clip %", "dB")]:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("out dB", justify="right", no_wrap=True)
    table.add_column("why float", overflow="fold")
    for layer in layers.sites:
        cells = [cell for kind in KINDS for cell in _cells(layer, kind)]
        style = "dim" if layer.reason else ""
        table.add_row(_name(layer), layer.op, *cells, _number(layer.output_sqnr_db), layer.reason or "", style=style)
    table.caption = "w weights, a activations, out the site's result; dB of signal over quantization noise"
    return table


def _name(layer: Any) -> str:
    """The path, with the site's number where it is not the first of its op there."""
    number = layer.id.rsplit(":", 1)[1].split("[")[0]
    return layer.path + (f" #{number}" if number != "0" else "")


def _cells(layer: Any, kind: str) -> tuple[str, str, str]:
    """Bits, clipped per cent and SQNR of a layer's operands of one kind, separated by commas where there are two."""
    operands: list[Any] = [operand for operand in layer.operands if operand.kind == kind]
    bits = ", ".join(str(operand.bits) for operand in operands)
    clipped = ", ".join(_number(operand.clipped and 100 * operand.clipped, 2) for operand in operands)
    return bits, clipped, ", ".join(_number(operand.sqnr_db) for operand in operands)


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
