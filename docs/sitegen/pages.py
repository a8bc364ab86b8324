"""All generated pages by their path below `docs/`, and a list of all pages in plain text."""

from pathlib import Path
from typing import Any

from sitegen.cards import card_pages
from sitegen.gallery import gallery_pages
from sitegen.reference import reference_pages
from sitegen.source import ROOT

ABOUT = """# qat

> Quantization as a JAX function transformation, and the experiments that say what it costs. `qat.quantize(fn, recipe)`
> gives `sites`, `calibrate`, `simulate`, `convert` and `serve`; served integers equal simulated ones to the last bit.
"""


def generated() -> dict[str, str]:
    """The text of each generated page by its path, in the order of the navigation."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return {**card_pages(), **gallery_pages(), **reference_pages(), "changelog.md": changelog}


def listing(nav: Any, folder: Path) -> str:
    """All pages of the navigation as `llms.txt` lists them: sections, and a link with its title for each page."""
    made, lines = generated(), [ABOUT]
    for section in nav:
        for heading, paths in section.items():
            lines.append(f"## {heading}\n")
            for path in paths:
                text = made[path] if path in made else (folder / path).read_text(encoding="utf-8")
                title = next(line for line in text.splitlines() if line.startswith("# ")).removeprefix("# ")
                lines.append(f"- [{title}]({path.removesuffix('.md')}.html)")
            lines.append("")
    return "\n".join(lines)
