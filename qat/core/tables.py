"""Tables for the terminal."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

WIDE = 140  # columns of a terminal in which nothing is folded
FOLDED = 16  # columns of shapes and reasons in a narrower terminal, which leaves room for paths


def as_text(table: Any, width: int = 160) -> str:
    """A rich renderable as plain text."""
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).rstrip()


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "1"


def _bits(s: Any) -> str:
    return "float" if s.reason else f"w{s.weight_bits or 32} a{s.activation_bits or 32}"


def shares_text(found: Mapping[str, float]) -> str:
    """Shares in words: `77 % 4x4, 23 % 8x8`; of less than half a percent with one decimal."""
    return ", ".join(f"{100 * share:.{0 if share >= 0.005 else 1}f} % {name}" for name, share in found.items())


@dataclass(frozen=True)
class SitesTable:
    """A row for each site, with totals in the caption. A site in float shows its reason in place of a rule."""

    sites: Any

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield _sites_table(self.sites, None if options.max_width >= WIDE else FOLDED)


def _sites_table(sites: Any, folded: int | None) -> Table:
    table = Table(title="sites", title_justify="left", caption_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("path", overflow="fold")
    table.add_column("op", no_wrap=True)
    table.add_column("shapes", overflow="fold", max_width=folded)
    table.add_column("rule, or why float", overflow="fold", max_width=folded)
    table.add_column("bits", no_wrap=True)
    for name in ("MMACs", "kB"):
        table.add_column(name, justify="right", no_wrap=True)
    for s in sites:
        operands = " . ".join(f"{n[0]}:{_shape(x)}" for n, x in zip(s.operands, s.shapes, strict=False))
        number = s.id.rsplit(":", 1)[1]
        table.add_row(
            s.path + (f" #{number}" if number != "0" else ""),
            s.op,
            f"{operands} > {_shape(s.shapes[2])}",
            s.reason or (s.rule.pattern if s.rule else "-"),
            _bits(s),
            f"{s.macs / 1e6:.2f}",
            f"{s.bytes / 1e3:.1f}",
            style="dim" if s.reason else "",
        )
    done = [s for s in sites if s.reason is None]
    share = sum(s.macs for s in done) / max(sum(s.macs for s in sites), 1)
    caption = (
        f"{len(done)} of {len(sites)} sites quantized, {share:.1%} of {sum(s.macs for s in sites) / 1e6:.1f} "
        f"MMACs; weights {sum(s.bytes for s in sites) / 1e3:.1f} kB of "
        f"{sum(s.float_bytes for s in sites) / 1e3:.1f} kB"
    )
    if found := sites.operations:
        caption = f"multiplications by bits of weights x activations: {shares_text(found)}\n{caption}"
    if joining := [s.path for s in done if s.joins]:
        caption += (
            f"\none range for several joined arrays: {', '.join(joining[:3])}{', ...' if len(joining) > 3 else ''}; "
            "per='part' gives each its own"
        )
    if narrowed := [s.path for s in done if s.narrowed]:
        caption += f"\nfloat64 computed in float32: {', '.join(narrowed[:3])}{', ...' if len(narrowed) > 3 else ''}"
    table.caption = caption
    return table
