import pytest

from analysis.figures import legend_below
from analysis.style import Saver, figure_text, looks, new_figure, save, styled
from scorer_core.support.errors import RecordError
from tests.analysis.synthetic import ODD_NAMES


def drawn():
    figure = new_figure(2, 1)
    figure.subplots().plot([0, 1], [1, 0], label="a variant")
    return figure


def saved(folder, beside):
    with styled(), Saver(beside) as saver:
        saver.save(drawn(), folder / "one", {"runs": 3}, ("pdf", "svg", "png"))
        saver.save(drawn(), folder / "two", {"runs": 4}, ("png",))
        return {path.name: path.read_bytes() for path in saver.written()}


def test_figures_saved_in_processes_beside_this_one_have_the_same_bytes(tmp_path):
    here, beside = saved(tmp_path / "here", beside=False), saved(tmp_path / "beside", beside=True)
    assert list(here) == ["one.pdf", "one.svg", "one.png", "one.json", "two.png", "two.json"]
    assert here == beside


@pytest.mark.parametrize("beside", [False, True])
def test_a_figure_that_cannot_be_written_is_an_error_that_names_the_file(tmp_path, beside):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match=r"one\.pdf: cannot be written"):
        saved(tmp_path / "file", beside)


def test_every_name_is_in_the_legend_even_if_it_is_no_mathematics_or_the_font_lacks_a_letter(tmp_path):
    with styled():
        figure = drawn()
        figure.axes[0].set_xticks(range(len(ODD_NAMES)), [figure_text(name) for name in ODD_NAMES])
        legend_below(figure, ODD_NAMES, looks(ODD_NAMES, []))
        save(figure, tmp_path / "odd", {}, ["svg", "pdf", "png"])
        assert len(figure.legends[0].get_texts()) == len(ODD_NAMES)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (r"$\alpha$ decay", r"$\alpha$ decay"),
        ("a$b$c", "a$b$c"),
        (r"lr $\alpha_{$", r"lr \$\alpha_{\$"),
        ("5 $", r"5 \$"),
        ("x_1^2", "x_1^2"),
        ("$\\frac$\n$b$", "\\$\\frac\\$\n$b$"),
    ],
)
def test_only_a_line_that_parses_is_drawn_as_mathematics(name, text):
    assert figure_text(name) == text
