"""docs/notebook.ipynb runs from top to bottom, and is stored with its outputs."""

import os
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from nbclient import NotebookClient

from tests.analysis.synthetic import make_sweep

PAGE = Path(__file__).parent.parent / "docs" / "notebook.ipynb"
TRAINS = "!scorer run"


def stored() -> Any:
    return nbformat.read(PAGE, as_version=4)


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(notebook: Any) -> list[list[str]]:
    """Of each code cell: the kinds of its outputs, such as stream, text/html and image/png."""
    return [
        sorted({kind for output in cell.outputs for kind in output.get("data", {output.output_type: ""})})
        for cell in code_cells(notebook)
    ]


def execute(notebook: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The notebook, executed by a kernel of this environment in `folder`."""
    root = PAGE.parent.parent
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.setenv("PYTHONPATH", str(root))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def test_the_notebook_is_stored_with_the_output_of_every_cell_and_one_figure():
    cells = code_cells(stored())
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert all(cell.outputs for cell in cells)
    assert sum("image/png" in kind for kind in kinds(stored())) == 1
    assert PAGE.stat().st_size < 150_000
    assert "\x1b" not in PAGE.read_text(encoding="utf-8")
    assert "\\u001b" not in PAGE.read_text(encoding="utf-8")


def test_the_notebook_reads_a_sweep_and_draws_its_figure(tmp_path, monkeypatch):
    """The sweep is simulated here; the slow test trains it."""
    notebook = stored()
    (definition,) = [cell.source for cell in code_cells(notebook) if cell.source.startswith("%%writefile")]
    make_sweep(tmp_path / "outputs", yaml.safe_load(definition.partition("\n")[2]))
    notebook.cells = [cell for cell in notebook.cells if not cell.source.startswith(TRAINS)]
    shown = [
        kind for cell, kind in zip(code_cells(stored()), kinds(stored()), strict=True) if TRAINS not in cell.source
    ]
    assert kinds(execute(notebook, tmp_path, monkeypatch)) == shown


@pytest.mark.slow
def test_the_notebook_trains_its_sweep(tmp_path, monkeypatch):
    executed = execute(stored(), tmp_path, monkeypatch)
    assert kinds(executed) == kinds(stored())
    (trained,) = [cell for cell in code_cells(executed) if cell.source.startswith(TRAINS)]
    assert "12 of 12 lanes done" in "".join(output.text for output in trained.outputs)
