"""docs/FAULTS.md: every row has its test. Those of mistakes check what is said there."""

import re
from pathlib import Path

import pytest
import test_bad_input
import test_bad_runs

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "FAULTS.md").read_text(encoding="utf-8")
MISTAKES = {
    "Mistakes in data and settings": test_bad_input,
    "Mistakes in runs, models and submissions": test_bad_runs,
}


def rows(title: str) -> list[list[str]]:
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [re.split(r"(?<!\\) \| ", line[2:-2]) for line in lines[1:]]


def test_every_row_and_section_names_a_test_that_exists():
    titles = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    for title in set(titles) - set(MISTAKES):
        assert all("::" in row[-1] for row in rows(title))
    named = set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE))
    assert len(named) >= 20
    for path, test in named:
        assert f"\ndef {test}(" in (ROOT / path).read_text(encoding="utf-8"), (path, test)


@pytest.mark.parametrize("title", MISTAKES)
def test_every_mistake_of_the_tables_is_a_case(title):
    names = [name for name, _ in rows(title)]
    assert names == list(MISTAKES[title].CASES)
