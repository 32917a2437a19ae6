"""What people see of tables on terminals of several widths."""

import pytest

from licensing.cli import output

HEADINGS = ("license", "customer", "product", "seats", "until", "serial")
ROWS: list[tuple[str | int | None, ...]] = [
    ("acme-fluidit-water-3tasfzet", "acme", "Fluidit Water", 5, "2028-12-31", 1795855570),
    ("brook-fluidit-water-ztw01uod", "brook", "Fluidit Water", None, "2028-12-28 08:43 UTC", 1795855611),
]


def shown(width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """The table on a terminal of that width; no line is longer."""
    monkeypatch.setattr(output.out, "width", width)
    with output.out.capture() as captured:
        output.out.print(output.table(*HEADINGS, rows=ROWS))
    text = captured.get()
    assert max(map(len, text.splitlines())) <= width
    return text


def test_a_wide_table_has_each_row_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(160, monkeypatch).splitlines()
    assert len(lines) == 4 + len(ROWS)
    assert any("2028-12-28 08:43 UTC" in line and "brook-fluidit-water-ztw01uod" in line for line in lines)


def test_a_narrow_table_breaks_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(80, monkeypatch)
    cells = (cell for row in (HEADINGS, *ROWS) for cell in row if cell is not None)
    assert all(word in text.split() for cell in cells for word in str(cell).split())


def test_a_table_that_is_too_narrow_for_its_words_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    first_column = "".join(line[:8].strip() for line in shown(50, monkeypatch).splitlines())
    assert all(str(row[0]) in first_column for row in ROWS)
