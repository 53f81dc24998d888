"""Files that are there whole or not at all, and locks that end with the process that holds them, however it ends."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


@contextmanager
def alone(lock: Path, *, folder: bool = True) -> Iterator[None]:
    """Hold a lock; who wants it meanwhile waits. Its file is deleted in the end. Raises OSError where it cannot be
    written.

    Args:
        lock: Its file.
        folder: Make its folder too, where it is missing.
    """
    held = False
    while not held:
        if folder:
            lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            held = _is_at(file, lock)  # who held it before, or `sweep`, may have deleted it
            if held:
                try:
                    yield
                finally:
                    if _is_at(file, lock):
                        with suppress(OSError):
                            lock.unlink()


@contextmanager
def partial(path: Path) -> Iterator[Path]:
    """A file of this process beside `path`, with its suffix, which the caller moves there once it is whole; else it is
    deleted. What killed processes left of the same kind is deleted too. Raises OSError where it cannot be written."""
    for left in path.parent.glob(f".{path.stem}.*.part{path.suffix}"):
        sweep(left, left.unlink)
    own = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        with alone(own, folder=False):
            yield own
    finally:
        with suppress(OSError):
            own.unlink(missing_ok=True)


def write(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all. Raises OSError, and then what was there before is still there."""
    with partial(path) as own:
        own.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(own, path)


def sweep(lock: Path, delete: Callable[[], object]) -> None:
    """Delete what belongs to a lock, the lock included, if no process holds it any more."""
    with suppress(OSError), lock.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(file, lock):
            delete()


def _is_at(file: IO, path: Path) -> bool:
    """Whether an open file is the one that its path leads to."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
