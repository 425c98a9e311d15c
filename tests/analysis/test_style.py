import pytest

from analysis.style import Saver, new_figure, styled
from scorer_core.records import RecordError


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
