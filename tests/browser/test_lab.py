"""Every notebook, opened in JupyterLab and run to its end; `make browser PICTURES=folder` keeps what was to be seen."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mtlkit import paths
from mtlkit.studies import read_yaml
from tests.browser.chromium import BROWSER, HEIGHT, Page, chromium, jupyterlab

NAMES = sorted(path.stem for path in paths.NOTEBOOKS.glob("*.ipynb"))
NOTEBOOK = "[...jupyterapp.shell.widgets('main')][0]"  # nothing has the focus in a browser without a window
pytestmark = [pytest.mark.browser, pytest.mark.skipif(BROWSER is None, reason="needs chromium on the PATH")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All notebooks, with the parameters of their smoke runs."""
    import papermill

    root = tmp_path_factory.mktemp("lab")
    (root / "notebooks").mkdir()
    for name in NAMES:
        given = read_yaml(paths.PARAMS / f"{name}.smoke.yaml") | {"runs": str(root / "runs")}
        source, prepared = paths.NOTEBOOKS / f"{name}.ipynb", root / "notebooks" / f"{name}.ipynb"
        papermill.execute_notebook(str(source), str(prepared), given, prepare_only=True)
    return root


@pytest.fixture(scope="module")
def address(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    with jupyterlab(folder, tmp_path_factory.mktemp("settings")) as address:
        yield address


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = Path(os.environ.get("MTLKIT_PICTURES") or tmp_path_factory.mktemp("pictures"))
    place.mkdir(parents=True, exist_ok=True)
    return place


@pytest.mark.parametrize("name", NAMES)
def test_notebook_runs_to_its_end(
    name: str, folder: Path, address: Callable[[str], str], page: Page, pictures: Path
) -> None:
    page.size(HEIGHT)
    page.call("Page.navigate", url=address(f"notebooks/{name}.ipynb"))
    page.wait_for(f"window.jupyterapp && {NOTEBOOK}?.context?.path === 'notebooks/{name}.ipynb'")
    page.evaluate(f"{NOTEBOOK}.context.ready.then(() => {NOTEBOOK}.sessionContext.ready).then(() => true)")
    page.wait_for(f"{NOTEBOOK}.sessionContext.session?.kernel?.status === 'idle'")
    page.picture(pictures / f"{name}.opened.png")
    page.evaluate(f"jupyterapp.shell.activateById({NOTEBOOK}.id)")
    page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells').then(() => true)")
    page.wait_for(f"{NOTEBOOK}.sessionContext.session.kernel.status === 'idle'")
    page.evaluate(f"{NOTEBOOK}.context.save().then(() => true)")
    _whole(page, pictures / f"{name}.png")
    page.evaluate("jupyterapp.serviceManager.sessions.shutdownAll().then(() => true)")
    cells = json.loads((folder / "notebooks" / f"{name}.ipynb").read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    said = [line for one in outputs if one.get("name") == "stderr" for line in "".join(one["text"]).splitlines()]
    assert not [line for line in said if not line.startswith("NOTE: ")], "it looks like an error"
    assert all(cell["execution_count"] for cell in code if "".join(cell["source"])), "a cell did not run"
    assert page.evaluate(OVERFLOW) == [], "tables wider than their cell"


OVERFLOW = """[...document.querySelectorAll('.jp-OutputArea-output')]
    .filter(one => one.scrollWidth > one.clientWidth + 1)
    .map(one => `${one.scrollWidth} in ${one.clientWidth}: ${one.textContent.slice(0, 60)}`)"""


def _whole(page: Page, path: Path) -> None:
    """A picture of all cells: JupyterLab renders those that are on the screen, so the screen is made as high."""
    page.size(12_000)
    page.evaluate("new Promise(done => setTimeout(done, 2000))")
    inner = "document.querySelector('.jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-inner')"
    page.size(int(page.evaluate(f"{inner}.getBoundingClientRect().height")) + 150)
    page.evaluate(f"{NOTEBOOK}.content.scrollToItem(0).then(() => new Promise(done => setTimeout(done, 1500)))")
    page.picture(path)
