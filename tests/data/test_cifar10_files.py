"""CIFAR-10: damaged and foreign archives, torchvision's folder, preparation."""

import functools
import hashlib
import json
import pickle
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtlkit.data import cifar10
from mtlkit.errors import MtlkitError
from tests.data.archives import content, real, write

EXPECTED = "x_train and x_test, uint8 (N, 32, 32, 3)"


def refusal(folder: Path) -> str:
    """The one sentence with which an archive is refused: it names the file and what is expected."""
    with pytest.raises(MtlkitError) as info:
        real(folder)
    message = str(info.value)
    assert str(folder / "cifar10.npz") in message and EXPECTED in message
    assert "\n" not in message and message.endswith(".") and "allow_pickle" not in message
    return message


@pytest.mark.faults("data archive cut off")
@pytest.mark.parametrize("left", [0, 1, 4, 100, 0.5, 0.99])
def test_a_truncated_archive(tmp_path, left):
    path = write(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: left if isinstance(left, int) else int(left * len(whole))])
    message = refusal(tmp_path)
    assert "truncated or damaged" in message or (left == 1 and "not a NumPy archive" in message)


@pytest.mark.parametrize(
    "foreign", [b"<html>404</html>", pickle.dumps({"x_train": 1}), b"\x89PNG\r\n", b"\x93NUMPY\x01"]
)
def test_a_file_of_another_kind(tmp_path, foreign):
    (tmp_path / "cifar10.npz").write_bytes(foreign)
    assert "is not a NumPy archive or holds pickled objects" in refusal(tmp_path)


def test_a_single_array(tmp_path):
    with (tmp_path / "cifar10.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    assert "is not a NumPy archive" in refusal(tmp_path)


class Bomb:
    """An object whose unpickling would be noticed."""

    def __reduce__(self):
        return (pytest.fail, ("an archive was unpickled",))


def test_pickled_objects_are_refused_and_not_run(tmp_path):
    write(tmp_path, y_train=np.array([Bomb()] * 2000, dtype=object))
    assert "holds pickled objects" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("changes", "drop", "message"),
    [
        ({}, ("x_test", "y_test"), "lacks x_test, y_test"),
        ({"images": np.zeros(3)}, ("x_train", "y_train", "x_test", "y_test"), "lacks x_train"),
        ({"x_train": np.zeros((2000, 3, 32, 32), np.uint8)}, (), "x_train in"),
        ({"x_train": np.zeros((2000, 32, 32, 3), np.float32)}, (), "is float32 (2000, 32, 32, 3)"),
        ({"x_train": np.zeros((1999, 32, 32, 3), np.uint8), "y_train": np.zeros(1999, int)}, (), "(1999, 32, 32, 3)"),
        ({"x_test": np.array(7)}, (), "x_test in"),
        ({"y_train": np.zeros(1999, int)}, (), "y_train in"),
        ({"y_train": np.zeros((2000, 1), int)}, (), "is int64 (2000, 1)"),
        ({"y_train": np.zeros(2000)}, (), "is float64 (2000,)"),
        ({"y_test": np.full(20, 10)}, (), "leaves 0..9"),
        ({"y_test": np.full(20, -1)}, (), "leaves 0..9"),
    ],
)
def test_wrong_keys_shapes_types_and_ranges(tmp_path, changes, drop, message):
    write(tmp_path, drop, **changes)
    assert message in refusal(tmp_path)


def test_an_unreadable_archive(tmp_path):
    (tmp_path / "cifar10.npz").mkdir()
    with pytest.raises(MtlkitError, match=r"cifar10\.npz cannot be read: Is a directory\.$"):
        real(tmp_path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_is_one_sentence_or_harmless(tmp_path, data):
    path = write(tmp_path)
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(-len(whole), len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))] if data.draw(st.booleans()) else whole)
    try:
        loaded = real(tmp_path)
    except MtlkitError as error:
        assert "\n" not in str(error) and "cifar10.npz" in str(error)
    else:
        assert loaded.facts["sizes"]["train"] == 800


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def batches(tmp_path, monkeypatch) -> Path:
    """A data root with torchvision's layout: three small batches whose checksums torchvision is told to expect."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    source = content()

    def save(name: str, images: np.ndarray, labels: np.ndarray) -> list[str]:
        rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        (folder / name).write_bytes(pickle.dumps({"data": rows, "labels": labels.tolist()}))
        return [name, md5(folder / name)]

    thirds = [slice(k, k + 1000) for k in (0, 1000, 2000)]
    train = [save(f"data_batch_{k}", source["x_train"][s], source["y_train"][s]) for k, s in enumerate(thirds, 1)]
    monkeypatch.setattr(CIFAR10, "train_list", train)
    monkeypatch.setattr(CIFAR10, "test_list", [save("test_batch", source["x_test"], source["y_test"])])
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": cifar10.CLASSES}))
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": md5(folder / "batches.meta")})
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/nothing-listens-here.tar.gz")
    return tmp_path


def test_torchvisions_folder_is_the_official_variant(batches, root):
    official, prepared = real(batches, 1), real(root, 1)
    assert official.variant == "cifar10-official"
    assert official.checksum == prepared.checksum
    for name in ("train", "reference", "tuning", "test"):
        assert torch.equal(getattr(official, name).inputs, getattr(prepared, name).inputs)
        assert torch.equal(getattr(official, name).groups, getattr(prepared, name).groups)


@pytest.mark.parametrize("harm", ["change", "remove"])
def test_a_damaged_folder_is_an_error(batches, harm):
    batch = batches / "cifar-10-batches-py" / "data_batch_2"
    batch.write_bytes(batch.read_bytes()[:-1] + b"!") if harm == "change" else batch.unlink()
    with pytest.raises(MtlkitError, match=r"cifar-10-batches-py is incomplete or damaged.*data prepare cifar10`\.$"):
        real(batches)
    assert "damaged" in cifar10.status(str(batches))["problem"]


def test_prepare_writes_an_archive_that_equals_the_folder(batches):
    before = real(batches)
    path = cifar10.prepare(str(batches))
    assert path == batches / "cifar10.npz"
    with np.load(path, allow_pickle=False) as archive:
        assert str(archive["variant"]) == "cifar10-official" and "official" in str(archive["source"])
    for file in (batches / "cifar-10-batches-py").iterdir():
        file.unlink()
    after = real(batches)
    assert (after.variant, after.checksum) == (before.variant, before.checksum)
    written = path.stat().st_mtime_ns
    assert cifar10.prepare(str(batches)) == path and path.stat().st_mtime_ns == written, "nothing is done twice"
    assert {p.name for p in batches.iterdir()} == {"cifar10.npz", "cifar-10-batches-py"}


@pytest.fixture
def server(tmp_path) -> Iterator[str]:
    """The address at which this machine alone can fetch the files below ``tmp_path``."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_prepare_downloads_what_is_missing(batches, server, monkeypatch):
    from torchvision.datasets import CIFAR10

    packed = batches / "server.tar.gz"
    with tarfile.open(packed, "w:gz", compresslevel=1) as archive:
        archive.add(batches / CIFAR10.base_folder, CIFAR10.base_folder)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(CIFAR10, "url", f"{server}/{packed.name}")
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(packed))
    fresh = batches / "deep" / "root"
    cifar10.prepare(str(fresh))
    assert cifar10.status(str(fresh))["variant"] == "cifar10-official"
    assert real(fresh).checksum == real(batches).checksum


@pytest.mark.faults("disk full while a data set is prepared")
def test_prepare_leaves_no_half_archive(batches, monkeypatch):
    def fill_the_disk(file, **_arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fill_the_disk)
    with pytest.raises(MtlkitError, match=r"cifar10\.npz could not be written.*No space left"):
        cifar10.prepare(str(batches))
    assert [p.name for p in batches.iterdir()] == ["cifar-10-batches-py"]


def test_prepare_does_not_replace_other_images(tmp_path):
    path = write(tmp_path, source="JPEG quality 75")
    before = path.read_bytes()
    with pytest.raises(MtlkitError, match=r"holds cifar10-jpeg75, which is not replaced"):
        cifar10.prepare(str(tmp_path))
    assert path.read_bytes() == before


def test_a_failed_download_is_one_sentence(batches):
    (batches / "cifar-10-batches-py" / "test_batch").unlink()
    with pytest.raises(
        MtlkitError, match=r"^CIFAR-10 could not be downloaded from https://www\.cs\.toronto\.edu"
    ) as info:
        cifar10.prepare(str(batches))
    assert "\n" not in str(info.value)
    assert not (batches / "cifar10.npz").exists()


def test_a_data_root_that_is_a_file_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MtlkitError, match="could not be downloaded"):
        cifar10.prepare(str(tmp_path / "file"))


def test_status(root, tmp_path):
    found = cifar10.status(str(root))
    assert found["found"] and found["variant"] == "cifar10-prepared" and found["path"] == str(root / "cifar10.npz")
    assert found["problem"] is None and found["name"] == "cifar10"
    missing = cifar10.status(str(tmp_path))
    assert not missing["found"] and missing["variant"] is missing["path"] is missing["problem"] is None
    assert (
        missing["how_to_prepare"] == "python -m mtlkit data prepare cifar10"
        and missing["source_url"]
        and missing["licence"]
    )
    (tmp_path / "cifar10.npz").write_bytes(b"")
    damaged = cifar10.status(str(tmp_path))
    assert not damaged["found"] and "truncated or damaged" in damaged["problem"] and damaged["path"]
    json.dumps([found, missing, damaged])
