"""Reference pages: one a package with its public names, and one of the command line."""

import ast

from sitegen.source import MODULES, ROOT, file_of, parsed, public


def reference_pages() -> dict[str, str]:
    """The text of each page of the reference by its path, the index first."""
    names = public()
    index = [
        "# Reference",
        "",
        "Public names and their docstrings, a page a package. [Commands](commands.md) has the command line.",
        "",
        "| from | import |",
        "|---|---|",
    ]
    pages = {"reference/index.md": "", "reference/commands.md": commands_page()}
    for module, members in names.items():
        links = ", ".join(f"[`{name}`]({module}.md#{module}.{name})" for name in members)
        index.append(f"| [`{module}`]({module}.md) | {links} |")
        pages[f"reference/{module}.md"] = _page(module, members)
    pages["reference/index.md"] = "\n".join(index) + "\n"
    return pages


def _page(module: str, members: list[str]) -> str:
    opening = (ast.get_docstring(parsed(file_of(module))) or "").split("\n\n")[0]
    kind = "module" if module in MODULES else "package"
    text = [f"# {module}", "", opening, "", f"`{file_of(module).relative_to(ROOT)}`, a {kind}.", ""]
    return "\n".join(text + [f"::: {module}.{name}\n" for name in members])


def commands_page() -> str:
    """The command line, as its own help describes it."""
    from typer.main import get_command

    from qat.lab.cli import app

    group = get_command(app)
    text = ["# Commands", "", "Each as `qat COMMAND --help` tells it.", ""]
    for name, command in group.commands.items():  # pyright: ignore[reportAttributeAccessIssue]
        places = [one for one in command.params if one.param_type_name == "argument"]
        shown = " ".join(
            f"[{(one.metavar or str(one.name).upper())}]"
            if not one.required
            else (one.metavar or str(one.name).upper())
            for one in places
        )
        text += [
            f"## qat {name}",
            "",
            f"```text\nqat {name} {shown} [OPTIONS]\n```",
            "",
            " ".join((command.help or "").split()),
            "",
        ]
        rows = [row for one in command.params if (row := _option(one))]
        text += [*(["| option | default | |", "|---|---|---|", *rows, ""] if rows else [])]
    return "\n".join(text)


def _option(parameter) -> str:
    """The row of an argument or option in its command's table."""
    help_text = " ".join((getattr(parameter, "help", "") or "").split()).replace("|", "\\|")
    named = (
        parameter.metavar or str(parameter.name).upper()
        if parameter.param_type_name == "argument"
        else ", ".join(parameter.opts)
    )
    value = parameter.default
    shown = "" if value is None or value in (False, (), []) or callable(value) or parameter.required else f"`{value}`"
    return f"| `{named}` | {shown} | {help_text} |"
