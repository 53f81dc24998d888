"""One line that says how far a run is: in a terminal, in JupyterLab, and in the log of a headless run."""

import sys
import time
from types import TracebackType


class Progress:
    """Call it after every epoch with the epoch, the number of epochs and the loss.

    The line is rewritten in place, at most twice a second.

    Args:
        name: Written at the start of the line.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._start = self._shown = time.monotonic()
        self._first: int | None = None
        self._line = ""

    def __enter__(self) -> "Progress":
        return self

    def __call__(self, epoch: int, epochs: int, loss: float) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = epoch - 1  # a resumed run starts later
        left = (now - self._start) / (epoch - self._first) * (epochs - epoch)
        self._line = f"{self.name}: epoch {epoch}/{epochs}, loss {loss:.4f}, {_clock(left)} left"
        if now - self._shown > 0.5:
            self._shown = now
            self._write(self._line)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._line:
            self._write(f"{self._line.rsplit(',', 1)[0]}, took {_clock(time.monotonic() - self._start)}")
            sys.stdout.write("\n")

    def _write(self, line: str) -> None:
        sys.stdout.write(f"\r{line:<72}")
        sys.stdout.flush()


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
