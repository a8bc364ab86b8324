"""All generated pages by their path below `docs/`."""

from sitegen.reference import reference_pages
from sitegen.source import ROOT


def generated() -> dict[str, str]:
    """The text of each generated page by its path, in the order of the navigation."""
    return {**reference_pages(), "changelog.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")}
