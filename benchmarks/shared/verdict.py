"""One way to print a measured ratio beside the figure it is held to."""

from rich.console import Console
from rich.table import Table


def report(title: str, rows: list[tuple[str, float, float | None]], unit: str = "") -> None:
    """A table of (what, measured, at most); a row without a bound is for comparison."""
    table = Table(title=title, title_justify="left")
    for name, side in (("what", "left"), (f"measured{unit}", "right"), ("at most", "right"), ("", "left")):
        table.add_column(name, justify=side)  # pyright: ignore[reportArgumentType]
    for what, value, bound in rows:
        verdict = "" if bound is None else "[green]reached[/]" if value <= bound else "[red]missed[/]"
        table.add_row(what, f"{value:.3f}", "" if bound is None else f"{bound:g}", verdict)
    Console().print(table)
