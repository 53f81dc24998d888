"""Launches a notebook headless through Papermill; the command line and the workflow do nothing else."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from mtlkit import files, paths
from mtlkit.errors import MtlkitError, suggestion
from mtlkit.parameters import names_known


def execute(experiment: str, output: Path, parameters: Mapping[str, Any], *, show: bool = True) -> None:
    """Run `notebooks/<experiment>.ipynb` with parameters and keep the executed notebook.

    Each process that `torchrun` started runs the notebook, in a kernel that inherits its rank; what the first one shows
    and its executed notebook are kept.

    Args:
        experiment: Name of the notebook.
        output: Where the executed notebook goes, whole or not at all.
        parameters: Injected; names are checked before anything starts.
        show: Pass what the notebook prints on to this terminal.

    Raises:
        MtlkitError: Unknown notebook or parameter, an unwritable folder, or what the notebook raised.
    """
    import sys

    import papermill
    from papermill.exceptions import PapermillExecutionError

    first = os.environ.get("RANK", "0") == "0"
    source = paths.NOTEBOOKS / f"{experiment}.ipynb"
    if not source.is_file():
        known = sorted(path.stem for path in paths.NOTEBOOKS.glob("*.ipynb"))
        raise MtlkitError(f"there is no notebook {experiment!r}{suggestion(experiment, known)}; there are "
                          f"{', '.join(known)}.")  # fmt: skip
    names_known(parameters, papermill.inspect_notebook(str(source)))
    if output.is_dir():
        raise MtlkitError(f"{output} is a folder; the executed notebook needs the name of a file.")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with files.partial(output) as own, _sockets() as folder:
            try:
                papermill.execute_notebook(
                    str(source), str(own), dict(parameters), progress_bar=False, log_output=False,
                    stdout_file=sys.stdout if show and first else None,
                    stderr_file=sys.stderr if show and first else None, kernel_manager_class=_kernel_manager(folder),
                    start_timeout=START_TIMEOUT, extra_arguments=QUIET,
                )  # fmt: skip
            except PapermillExecutionError as error:
                if first:
                    os.replace(own, output)
                raise MtlkitError(_sentence(error)) from None
            except RuntimeError as error:  # nbclient's, of a kernel that was killed or did not start
                raise MtlkitError(f"the kernel of {experiment} is gone ({error}); the same command goes on from the "
                                  "last checkpoint.") from None  # fmt: skip
            if first:
                os.replace(own, output)
    except OSError as error:
        raise MtlkitError(f"{output.parent} cannot be written to ({error.strerror or error}); choose another "
                          "folder.") from None  # fmt: skip


@contextmanager
def _sockets() -> Iterator[str]:
    """A folder for sockets in place of TCP ports: kernels that start side by side cannot take each other's. Those that
    killed processes left are deleted."""
    for left in Path(_near()).glob("mtlkit-*/lock"):
        files.sweep(left, partial(shutil.rmtree, left.parent, ignore_errors=True))
    folder = tempfile.mkdtemp(prefix="mtlkit-", dir=_near())
    try:
        with files.alone(Path(folder, "lock")):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


START_TIMEOUT = 900
"""Seconds that a kernel may take to start; with dozens that start on few cores, the usual minute is too short."""

QUIET = ["--IPKernelApp.log_level=50"]
"""For a kernel, which otherwise reports the interrupt that ends it as an error now and then."""

LONGEST = 75
"""Bytes of the path of the folder for temporary files. The path of a socket may have 107 on Linux and 103 on macOS, and
ends in `/mtlkit-xxxxxxxx/kernel-n`."""


def _near() -> str:
    """The folder that temporary files go to, or a short one where a socket's path would be too long."""
    folder = tempfile.gettempdir()
    return folder if len(os.fsencode(folder)) <= LONGEST else "/tmp"


def _kernel_manager(folder: str) -> type:
    """Kernels on sockets of their own, not on TCP ports: those that start side by side cannot take each other's."""
    from jupyter_client.manager import AsyncKernelManager

    class OwnSockets(AsyncKernelManager):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.transport, self.ip = "ipc", os.path.join(folder, "kernel")
            self.connection_file = os.path.join(folder, "kernel.json")

    return OwnSockets


def _sentence(error: Any) -> str:
    if error.ename == "MtlkitError":
        return error.evalue
    return f"cell {error.exec_count} raised {error.ename}: {error.evalue}"
