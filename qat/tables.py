"""Tables for the terminal."""

import io
from typing import Any

from rich.console import Console
from rich.table import Table

from qat.sites import Sites


def as_text(table: Any, width: int = 160) -> str:
    """A rich renderable as plain text."""
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(table)
    return out.getvalue().rstrip()


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "1"


def sites_table(sites: Sites) -> Table:
    """A row for every site, and the sums."""
    table = Table(title="sites", title_justify="left", caption_justify="left")
    for name, side in (("path", "left"), ("op", "left"), ("operands", "left"), ("out", "left"), ("rule", "left"),
                       ("w bits", "right"), ("a bits", "right"), ("MMACs", "right"), ("kB", "right"),
                       ("float because", "left")):  # fmt: skip
        table.add_column(name, justify=side, overflow="fold")
    for s in sites:
        operands = " . ".join(f"{n[0]}:{_shape(x)}" for n, x in zip(s.operands, s.shapes, strict=False))
        number = s.id.rsplit(":", 1)[1]
        bits = [str(b or 32) if not s.reason else "float" for b in (s.weight_bits, s.activation_bits)]
        table.add_row(s.path + (f" #{number}" if number != "0" else ""), s.op, operands, _shape(s.shapes[2]),
                      s.rule.pattern if s.rule else "-", *bits, f"{s.macs / 1e6:.2f}", f"{s.bytes / 1e3:.1f}",
                      s.reason or "", style="dim" if s.reason else "")  # fmt: skip
    done = [s for s in sites if s.reason is None]
    share = sum(s.macs for s in done) / max(sum(s.macs for s in sites), 1)
    table.caption = (f"{len(done)} of {len(sites)} sites quantized, {share:.1%} of {sum(s.macs for s in sites) / 1e6:.1f} "
                     f"MMACs; weights {sum(s.bytes for s in sites) / 1e3:.1f} kB of "
                     f"{sum(s.float_bytes for s in sites) / 1e3:.1f} kB")  # fmt: skip
    return table
