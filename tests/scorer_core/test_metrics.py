"""The table of logged quantities: everything that names them is made from it."""

import pytest

from scorer_core.diagnostics import PROBED
from scorer_core.metric_rows import SCHEMA
from scorer_core.metrics import DIAGNOSTICS, MEASURED, METRICS, TABLE
from scorer_core.pack import LEARNED
from tools import metrics_page
from tools.page import generated, marks, replace_generated


def test_the_schema_has_the_metrics_and_four_other_columns_of_version_0_1_s_names_and_order():
    assert SCHEMA.names == ["run_id", "step", *METRICS, "diverged", *MEASURED]
    assert set(TABLE) == {*METRICS, *MEASURED}
    assert {*PROBED, "srank", "effective_rank", "q_bias"} == set(DIAGNOSTICS)
    assert set(LEARNED) <= set(METRICS) - set(DIAGNOSTICS)


def test_every_metric_has_a_short_label_a_unit_and_a_meaning():
    assert len({metric.label for metric in TABLE.values()}) == len(TABLE)
    for metric in TABLE.values():
        assert 0 < len(metric.label) <= 22
        assert metric.unit
        assert metric.meaning
        assert not metric.meaning.endswith(".")


def test_the_page_of_the_metrics_is_current():
    assert generated(metrics_page.PAGE, metrics_page.PART) == metrics_page.tables()


def test_a_generated_part_is_replaced_and_a_page_without_it_is_an_error_that_names_the_page(tmp_path):
    page, (begin, end) = tmp_path / "page.md", marks("part")
    page.write_text(f"before\n{begin}stale\n{end}after\n")
    replace_generated(page, "part", "new\n")
    assert page.read_text() == f"before\n{begin}new\n{end}after\n"
    with pytest.raises(ValueError, match=r"page\.md: has no part"):
        replace_generated(page, "other", "new\n")
    assert page.read_text() == f"before\n{begin}new\n{end}after\n"
