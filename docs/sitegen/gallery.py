"""The gallery: a page a study, from its docstring, its settings and its kept results."""

import ast
from dataclasses import dataclass, field

from sitegen import results
from sitegen.figures import forest
from sitegen.source import ROOT

STUDIES = ROOT / "experiments"
FEW = 5
"""Seeds below which a page says that they are few."""


@dataclass
class Told:
    """The parts of a study's docstring."""

    question: str
    setting: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    cost: str = ""
    answer: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def told(text: str) -> Told:
    """The parts of a docstring: the question, how it is asked, indented commands, `Cost:`, the answer (from a paragraph
    that opens with `Answer` or `Of PTQ so far` up to one that opens with `The` or `What`), and notes."""
    first, *paragraphs = text.split("\n\n")
    question, mark, rest = " ".join(first.split()).rpartition("?")
    found = Told(question + mark or rest, [rest.strip()] if mark and rest.strip() else [])
    for paragraph in paragraphs:
        flat = " ".join(paragraph.split())
        if paragraph.startswith("    ") and not found.cost:
            found.commands.append("\n".join(line[4:] for line in paragraph.splitlines()))
        elif flat.startswith("Cost:"):
            found.cost = flat.removeprefix("Cost: ")
        elif not found.cost:
            found.setting.append(flat)
        elif flat.startswith(("Answer", "Of PTQ so far")):
            found.answer.append(flat)
        elif found.answer and not found.notes and not flat.startswith(("The ", "What ")):
            found.answer.append(_block(paragraph) if paragraph.startswith("    ") else flat)
        else:
            found.notes.append(flat)
    return found


def _block(text: str) -> str:
    return f"```text\n{text}\n```"


def gallery_pages() -> dict[str, str]:
    """The text of each page of the gallery by its path, the index first."""
    rows, pages = [["study", "question", "trials kept"]], {"experiments/index.md": ""}
    for file in sorted(STUDIES.glob("*.py")):
        text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        parts = told(text)
        pages[f"experiments/{file.stem}.md"] = _page(file.stem, parts)
        kept = results.kept(file.stem)
        count = str(len(kept.read_text(encoding="utf-8").splitlines()) - 1) if kept.exists() else "none"
        rows.append([f"[{file.stem}]({file.stem}.md)", parts.question, count])
    opening = (
        "# Experiments\n\nA page a study of `experiments/`: its question, how to run it, its figure, table and answer. "
        "Figures and tables are drawn from the kept results in `experiments/results` when the pages are built.\n\n"
    )
    pages["experiments/index.md"] = opening + results.markdown(rows) + "\n"
    return pages


def _page(name: str, parts: Told) -> str:
    text = [f"# {name}", f"**{parts.question}**", *parts.setting]
    text += ["## Command", *(f"```bash\n{command}\n```" for command in parts.commands)]
    text += ["## Cost", parts.cost or "Not measured."]
    has_table = results.kept(name).exists()
    if has_table:
        text += _measured(name)
    if results.kept(name).with_suffix(".npz").exists():
        text += ["## Verdicts", f"<!-- verdicts: {name} -->"]
    text += ["## Answer", *(parts.answer or ["None yet: no results of it are kept."])]
    text += ["## Caveats", *parts.notes, *_caveats(name, has_table), ""]
    return "\n\n".join(text)


def _measured(name: str) -> list[str]:
    table = results.read(name)
    figure = [forest(table)] if "float" in table.arms else []
    head = f"Means over n seeds ± half of the 95 % interval; differences are paired by seed. From `{name}.csv`."
    text = ["## Figure", *figure] if figure else []
    return [*text, "## Table", head, results.markdown(results.rows_of(table))]


def _caveats(name: str, has_table: bool) -> list[str]:
    """Caveats that the kept files show by themselves."""
    if not has_table:
        return ["- No results are kept in the repository; figures in the answer are those of the run that wrote it."]
    table = results.read(name)
    seeds = {len(arm.columns[table.metrics[0]]) for arm in table.arms.values()}
    lines = []
    if min(seeds) < FEW:
        lines.append(f"- The arms with fewest seeds have {min(seeds)}: intervals of so few are wide.")
    if len(table.arms.get("float", results.Arm("", {table.metrics[0]: {}})).columns[table.metrics[0]]) == 1:
        lines.append("- All arms start from one float model, and all that is said holds for it alone.")
    if results.kept(name).with_suffix(".npz").exists():
        lines.append(f"- `qat report experiments/results/{name}.csv` recomputes every verdict from the kept outcomes.")
    else:
        lines.append("- Outcomes on single test examples were not kept: nothing is said here of other test examples.")
    return ["\n".join(lines)]
