"""Print the size of the project: lines of code without docstrings, comments and blanks, files, statements."""

import ast
import tokenize
from pathlib import Path

ROOT = Path(__file__).parents[1]
LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}


def measure(path: Path) -> tuple[int, int]:
    """Lines of code and statements of a Python file."""
    tree = ast.parse(path.read_bytes())
    lines: set[int] = set()
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type not in LAYOUT | {tokenize.ENCODING, tokenize.ENDMARKER}:
                lines.update(range(token.start[0], token.end[0] + 1))
    n_statements = 0
    for node in ast.walk(tree):
        n_statements += isinstance(node, ast.stmt)
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            lines.difference_update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
            n_statements -= 1
    return len(lines), n_statements


def main() -> None:
    """Print one row per room, then totals."""
    rooms: dict[str, list[tuple[int, int, Path]]] = {}
    for top in ("src", "scripts", "kaggle", "tests"):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT / top).parts
            room = top if top != "src" else parts[1] if len(parts) > 2 else parts[0]
            rooms.setdefault(room, []).append((*measure(path), path))
    print(f"{'room':<16}{'lines':>7}{'files':>7}{'statements':>12}")
    for room, files in rooms.items():
        print(f"{room:<16}{sum(f[0] for f in files):>7}{len(files):>7}{sum(f[1] for f in files):>12}")
    product = [file for room, files in rooms.items() if room != "tests" for file in files]
    longest = max(product)
    other = [
        p
        for end in ("toml", "jinja", "js")
        for top in ("experiments", "src")
        for p in (ROOT / top).rglob(f"*.{end}")
    ]
    print(
        f"without tests: {sum(f[0] for f in product)} lines in {len(product)} files, "
        f"{sum(f[1] for f in product)} statements; longest {longest[2].relative_to(ROOT)} ({longest[0]})"
    )
    print(f"tests: {sum(f[0] for f in rooms['tests'])} lines")
    n_other = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in other)
    print(f"other source (TOML, jinja, JavaScript): {n_other} lines in {len(other)} files")


if __name__ == "__main__":
    main()
