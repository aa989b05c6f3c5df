"""Notebooks run from a clone, in the kernel of the installed Python, and are committed small."""

import json
import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "recipe/shape_grpo/notebooks").glob("*.ipynb"))


def printed(notebook):
    """What its cells print and show as text, one string a cell."""
    return [
        "".join(
            output.get("text") or output["data"].get("text/plain", "")
            for output in cell.outputs
            if output.get("name") != "stderr"
        )
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs_and_gives_what_is_committed(path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    committed = nbformat.read(path, as_version=4)
    before = printed(committed)
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    assert printed(notebook) == before


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_what_is_committed_is_small_and_of_no_machine(path):
    text = path.read_text()
    assert len(text) < 100_000
    outputs = [cell["outputs"] for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert all(outputs), "every cell shows something"
    assert not any(name in json.dumps(outputs) for name in ("site-packages", "/home/", "stderr"))


def test_there_are_notebooks():
    assert NOTEBOOKS
