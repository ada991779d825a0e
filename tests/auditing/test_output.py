"""The printed tables of an audit and its page: the same names and the same form of numbers."""

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console
from rich.table import Table

from tests.auditing.test_prose import audit
from undertow.auditing.make import BASELINES
from undertow.auditing.output import HTML, baselines_table, files, models_table, traits_table
from undertow.auditing.results import Audit, CarryingToken

WIDTH = 100  # characters of a line of the terminal


@pytest.fixture
def found() -> Audit:
    case = replace(audit("trait", probability=0.83), scores=("probe", "prompt", "gradient", "hidden"))
    model = replace(
        case.models[0],
        fit=-43.54,
        baselines={baseline.name: 0.5 + number / 10 for number, baseline in enumerate(BASELINES[:3])}
        | {baseline.name: 0.25 for baseline in BASELINES[3:]},
        tokens=(CarryingToken("7", -0.0125, 0.1, 0.2),),
    )
    first = replace(model.first, beyond=replace(model.first.beyond, z=-1.25))
    return replace(case, models=(replace(model, traits=(first,)),))


def printed(table: Table, width: int = 400) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_each_baseline_has_a_line_with_the_name_on_the_page(found: Audit) -> None:
    text, page = printed(baselines_table(found.models[0])), files(found, "0" * 32)[HTML].decode()
    lines = text.splitlines()
    for baseline in BASELINES:
        value = f"{found.models[0].baselines[baseline.name]:.2f}"
        (line,) = (line for line in lines if line.strip().startswith(baseline.meaning))
        assert line.split()[-1] == value
        assert f"<tr><td>{baseline.meaning}</td>".replace("'", "&#39;") in page
    assert max(map(len, lines)) <= WIDTH
    assert max(map(len, printed(models_table(found)).splitlines())) <= WIDTH


def test_tables_and_page_have_minus_signs_and_a_space_before_the_per_cent_sign(found: Audit) -> None:
    model, page = found.models[0], files(found, "0" * 32)[HTML].decode()
    body = page[page.index("<body>") :]
    texts = [body, *map(printed, (traits_table(found, model), models_table(found), baselines_table(model)))]
    assert "…" not in printed(traits_table(found, model), WIDTH)  # nothing is cut off
    near = replace(model, first_order=True)
    assert ["to first order" in printed(traits_table(found, one)) for one in (model, near)] == [False, True]
    for text in texts:
        assert not re.search(r"[0-9]%|(?<![\w.-])-[0-9]", text)
    assert "−43.54" in texts[0]
    assert "explains 12\u00a0% of" in texts[0]
    assert "−1.2" in texts[1]
    assert "−43.54" in texts[2]
    assert "12 %" in texts[2]
