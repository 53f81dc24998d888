"""Files that are there whole or not at all, and locks."""

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from mtlkit import files


def test_what_a_process_holds_is_left_and_what_a_dead_one_held_is_deleted(tmp_path: Path) -> None:
    held, left = tmp_path / "held", tmp_path / "left"
    left.touch()
    with files.alone(held):
        for lock in (held, left):
            files.sweep(lock, lock.unlink)
        assert held.is_file() and not left.exists()
    assert not held.exists()


def test_a_lock_deleted_before_it_was_taken_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens when one process sweeps between another's making of a file and its locking."""
    lock, flock, swept = tmp_path / "folder" / "lock", fcntl.flock, []

    def late(file: object, how: int) -> None:
        if not swept:
            swept.append(lock.unlink())
            lock.parent.rmdir()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with files.alone(lock):
        assert swept and lock.is_file()
        with lock.open() as other, pytest.raises(BlockingIOError):
            flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_nothing_is_deleted_under_a_name_that_is_another_file_by_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, flock = tmp_path / "lock", fcntl.flock
    lock.write_text("old")

    def late(file: object, how: int) -> None:
        lock.unlink()
        lock.write_text("new")
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    files.sweep(lock, lock.unlink)
    assert lock.read_text() == "new"


WRITER = """
import sys
from pathlib import Path
from mtlkit import files
for number in range(300):
    files.write(Path(sys.argv[1]), sys.argv[2] * 1000)
"""


def test_many_write_one_file(tmp_path: Path) -> None:
    """None fails, none takes away what another is writing, and what is there is whole."""
    path = tmp_path / "file.txt"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, letter], stderr=subprocess.PIPE, text=True)
               for letter in "abcd"]  # fmt: skip
    for writer in writers:
        assert not writer.communicate(timeout=120)[1] and writer.returncode == 0
    assert path.read_text() in [letter * 1000 for letter in "abcd"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    files.write(path, "before")
    with pytest.raises(RuntimeError), files.partial(path) as own:
        own.write_text("half")
        raise RuntimeError
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_stays_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.write(tmp_path / "none" / "file.txt", "text")
    assert not list(tmp_path.iterdir())
