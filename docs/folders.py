"""Draw the imports between the folders of the package into docs/design.md: python docs/folders.py."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, PAGE = ROOT / "jaxft", ROOT / "docs/design.md"
BEGIN, END = "<!-- folders -->\n", "<!-- /folders -->"
COMMANDS = "commands"


def folder(parts: tuple[str, ...]) -> str:
    """The folder of a module or file, by the parts of its path below the package."""
    top = parts[0].removesuffix(".py") if parts else ""
    is_folder = (PACKAGE / top).is_dir() and top != "hf"
    return top if top and is_folder else COMMANDS


def imports() -> dict[str, set[str]]:
    """The folders that each folder imports from."""
    found: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        me = folder(path.relative_to(PACKAGE).parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "jaxft":
                parts = tuple((node.module or "").split(".")[1:])
                for alias in node.names:
                    found.setdefault(me, set()).add(folder(parts or (alias.name,)))
    return {me: others - {me} for me, others in found.items()}


def drawing() -> str:
    """A mermaid diagram: an arrow for each import between folders, unless a longer path of arrows implies it."""
    graph = imports()

    def below(name: str) -> set[str]:
        return set().union(*({x} | below(x) for x in graph.get(name, set())))

    lines = [
        f"    {me} --> {other}"
        for me in sorted(graph)
        for other in sorted(graph[me])
        if not any(other in below(x) for x in graph[me] - {other})
    ]
    return "```mermaid\nflowchart TD\n" + "\n".join(lines) + "\n```\n"


def page() -> str:
    """docs/design.md with the current diagram."""
    text = PAGE.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    return head + BEGIN + drawing() + END + rest.split(END, 1)[1]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
