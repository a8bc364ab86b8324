"""Hooks of mkdocs: generated pages join those that are written by hand, and no page asks another host for anything."""

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from sitegen.pages import generated, listing
from sitegen.verdicts import filled

ELSEWHERE = re.compile(r"""<(?:script|link|img|iframe)[^>]*\s(?:src|href)=["']?(?:https?:)?//[^>]*>""")


def on_config(config: Any) -> Any:
    """Make the generated pages, and list them in the sections of the navigation that their indexes open."""
    pages = generated()
    config["generated_pages"] = pages
    for section in config.nav:
        for members in section.values():
            folder = members[0].rpartition("/index.md")[0]
            if folder:
                members += [path for path in pages if path.startswith(f"{folder}/") and path not in members]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    for path, text in config["generated_pages"].items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the tables and verdicts of kept studies where a page marks their places."""
    return filled(markdown)


def on_post_build(config: Any) -> None:
    """List the pages in `llms.txt`, and raise where one would load a script, a style or a picture from elsewhere."""
    site = Path(config.site_dir)
    (site / "llms.txt").write_text(listing(config.nav, Path(config.docs_dir)), encoding="utf-8")
    for page in site.rglob("*.html"):
        found = ELSEWHERE.search(page.read_text(encoding="utf-8"))
        if found and 'rel="canonical"' not in found[0]:
            raise PluginError(f"{page} loads from elsewhere: {found[0]}")
