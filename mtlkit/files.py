"""Files that are there whole or not at all, and locks that end with the process that holds them, however it ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Hold a lock; who wants it meanwhile waits. Raises OSError where it cannot be written."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def partial(path: Path) -> Iterator[Path]:
    """A file of this process beside `path`, with its suffix, which the caller moves there once it is whole; else it is
    deleted. What killed processes left of the same kind is deleted too. Raises OSError where it cannot be written."""
    for left in path.parent.glob(f".{path.stem}.*.part{path.suffix}"):
        if abandoned(left):
            left.unlink(missing_ok=True)
    own = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        with own.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield own
    finally:
        with suppress(OSError):
            own.unlink(missing_ok=True)


def write(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all. Raises OSError, and then what was there before is still there."""
    with partial(path) as own:
        own.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(own, path)


def abandoned(path: Path) -> bool:
    """Whether a file that belongs to the process that locks it has none any more."""
    try:
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
