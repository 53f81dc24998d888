"""Records: whole or not at all, and comparable."""

import ast
import itertools
import json
import math
import os
from pathlib import Path

import pytest
import torch

from mtlkit import records
from mtlkit.errors import MtlkitError
from mtlkit.nets import NETWORKS
from mtlkit.summary import WeightSummary
from mtlkit.weighting import METHODS
from tests import factory


def test_round_trip(tmp_path: Path) -> None:
    made = records.rounded(factory.record())
    path = tmp_path / "a" / "b" / "x.json"
    records.write(made, path)
    assert records.load(path) == made
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]


def test_records_of_other_parameters_make_way(tmp_path: Path) -> None:
    for name, rate in (("old", 0.05), ("new", 0.1)):
        made = records.rounded(factory.record())
        records.write(made | {"parameters": made["parameters"] | {"learning_rate": rate}}, tmp_path / f"{name}.json")
    assert records.drop_superseded(tmp_path, {"learning_rate": "1e-1", "seeds": "0-8", "unknown": 1}) == [
        tmp_path / "old.json"]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["new.json"]
    assert records.drop_superseded(tmp_path / "nowhere", {}) == []


def test_interrupted_write_leaves_the_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    records.write(factory.record(seed=0), path)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(MtlkitError, match=r"cannot be written to .*No space left on device.*parameter `runs`"):
        records.write(factory.record(seed=1), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"], "nor a part of the new one"


def test_unwritable_folder_ends_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MtlkitError, match=r"cannot be written to .*file.*; choose another folder"):
        records.write(factory.record(), tmp_path / "file" / "x.json")


@pytest.mark.parametrize(("tasks", "times"), [(10, 20), (40, 10)])
def test_the_longest_published_run_fits(tasks: int, times: int, tmp_path: Path) -> None:
    """300 epochs of ten tasks, and of CelebA's forty, all evaluated each time, may be committed."""
    summary = WeightSummary(torch.rand(tasks, 800) < 0.3, torch.randint(2, (tasks, 800)), 64, 300)
    for epoch in range(1, 301):
        weights = torch.rand(2, tasks, 64)
        weights /= weights.sum((1, 2), keepdim=True)
        summary.add(weights, torch.rand(2, tasks, 64), torch.randint(800, (2, 64)), epoch)
    evaluations = factory.record()["evaluations"]
    evaluations = [*evaluations[:-1] * 3, evaluations[-1]][-times:]
    for scores in (one[part] for one in evaluations for part in ("tuning", "test")):
        scores["tasks"] = [{f"balanced_accuracy_{k}": 0.123456 for k in range(6)}] * tasks
    made = factory.record(train_loss=torch.rand(300).tolist(), evaluations=evaluations, weights=summary.result())
    records.write(records.rounded(made), tmp_path / "x.json")
    assert (tmp_path / "x.json").stat().st_size < records.MAXIMUM_BYTES


DAMAGE = {
    "truncated": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "list": lambda text: "[]",
    "other schema": lambda text: text.replace('"schema":1', '"schema":2'),
    "foreign": lambda text: '{"schema": 1, "cells": []}',
    "binary": lambda text: b"\xff\xfe\x00",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_file_is_named_in_one_sentence(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    records.write(factory.record(), path)
    broken = DAMAGE[damage](path.read_text())
    path.write_bytes(broken if isinstance(broken, bytes) else broken.encode())
    with pytest.raises(MtlkitError, match=r"x\.json is not a record .*; delete it and run again\.$"):
        records.read(tmp_path)


@pytest.mark.parametrize("key", ["study", "condition", "arm", "cost", "evaluations", "code", "data"])
def test_what_tables_need_is_checked_on_reading(key: str, tmp_path: Path) -> None:
    lacking = {name: value for name, value in factory.record().items() if name != key}
    (tmp_path / "x.json").write_text(json.dumps(lacking))
    with pytest.raises(MtlkitError, match="is not a record of schema 1"):
        records.to_frame(records.read(tmp_path))


def test_read_is_sorted_and_skips_unfinished_ones(tmp_path: Path) -> None:
    for name, seed in (("b/2.json", 2), ("a/1.json", 1), ("c.json", 3)):
        records.write(factory.record(seed=seed), tmp_path / name)
    (tmp_path / "a" / ".1.json.99.part").write_text("{")
    (tmp_path / "a" / ".hidden.json").write_text("{")
    assert [record["seed"] for record in records.read(tmp_path)] == [1, 2, 3]
    assert records.read(tmp_path / "nowhere") == []


def test_rounded() -> None:
    given = {"a": (1.23456789, 1e-20, 3), "b": [math.nan, {"c": -math.inf}], "d": True, "e": None, "f": 123456789.0}
    wanted = {"a": [1.23457, 1e-20, 3], "b": [None, {"c": None}], "d": True, "e": None, "f": 123457000.0}
    assert records.rounded(given) == wanted
    assert given["a"] == (1.23456789, 1e-20, 3), "what is given stays as it is"


PARAMETERS = {"weighting": "ew", "noise": 0.3}
DATA = {"variant": "digits", "checksum": "0" * 16}


def test_identity_ignores_where_and_how() -> None:
    name = records.identity("cifar_flip", PARAMETERS, 0, DATA)
    assert len(name) == 16 and int(name, 16) >= 0
    plumbing = {key: "anything" for key in records.PLUMBING}
    assert records.identity("cifar_flip", dict(reversed(PARAMETERS.items())) | plumbing, 0, DATA | {"block": 3}) == name


@pytest.mark.parametrize(
    "changed",
    [
        ("toy", PARAMETERS, 0, DATA),
        ("cifar_flip", PARAMETERS | {"noise": 0.4}, 0, DATA),
        ("cifar_flip", PARAMETERS | {"k": 1}, 0, DATA),
        ("cifar_flip", PARAMETERS, 1, DATA),
        ("cifar_flip", PARAMETERS, 0, DATA | {"variant": "cifar10-official"}),
        ("cifar_flip", PARAMETERS, 0, DATA | {"checksum": "1" * 16}),
    ],
)
def test_identity_changes_with_what_is_run(changed: tuple) -> None:
    assert records.identity(*changed) != records.identity("cifar_flip", PARAMETERS, 0, DATA)


CODE = '''"""Module."""
import math

class A:
    """Class."""

    def f(self, x: int = 2) -> str:
        """Function."""
        return f"{x + 1:>3}"
'''


def hash_of(code: str, folder: Path) -> str:
    (folder / "code.py").write_text(code)
    records._code_in.cache_clear()
    return records._hash_of((folder / "code.py",))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Module."""', '"""Another."""\n# and a comment'),
        ('"""Module."""\n', ""),
        ('    """Class."""\n', ""),
        ('"""Function."""', '"""Other\n        words."""'),
        ("import math\n", "import   math  # why\n"),
        ("import math\n", "\n\n\nimport math\n"),
        ("import math\n", 'import math\n"""What it is for."""\n'),
        ("(self, x: int = 2)", "(\n        self,\n        x: int = 2,\n    )"),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(old: str, new: str, tmp_path: Path) -> None:
    assert CODE.replace(old, new) != CODE
    assert hash_of(CODE.replace(old, new), tmp_path) == hash_of(CODE, tmp_path)


@pytest.mark.parametrize(
    ("old", "new"), [("= 2", "= 3"), ("x + 1", "x - 1"), (">3", "<3"), ("import math\n", ""), ("f(", "g(")]
)
def test_code_counts(old: str, new: str, tmp_path: Path) -> None:
    assert hash_of(CODE.replace(old, new), tmp_path) != hash_of(CODE, tmp_path)


def test_names_and_order_of_files_count(tmp_path: Path) -> None:
    files = [tmp_path / "a.py", tmp_path / "b.py"]
    for file, text in zip(files, ("x = 1", "x = 2"), strict=True):
        file.write_text(text)
    assert records._hash_of(tuple(files)) != records._hash_of(tuple(reversed(files)))


def test_hash_is_the_same_on_every_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.12 gave functions an empty list of type parameters; committed records must not go stale over it."""
    here = hash_of(CODE, tmp_path)
    monkeypatch.setattr(ast.FunctionDef, "_fields", (*ast.FunctionDef._fields, "novelty"))
    monkeypatch.setattr(ast.FunctionDef, "novelty", [], raising=False)
    assert hash_of(CODE, tmp_path) == here


def test_code_hash_covers_what_a_run_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_hash_of", lambda files: {file.name for file in files})
    monkeypatch.setattr(records, "code_hash", records.code_hash.__wrapped__)
    every = {"optimizers.py", "training.py", "summary.py", "tasks.py", "reference.py"}
    slgrad = records.code_hash("slgrad", "lenet", "cifar10")
    assert slgrad > every | {"slgrad.py", "lenet.py", "cifar10.py", "alignment.py", "forward_mode.py",
                             "by_alignment.py"}  # fmt: skip
    assert not slgrad & {"rlw.py", "mlp.py", "toy.py", "plots.py"}
    rlw = records.code_hash("rlw", "mlp", "toy")
    assert rlw > every | {"rlw.py", "mlp.py", "toy.py"} and not rlw & {"slgrad.py", "alignment.py", "by_alignment.py"}
    cagrad = {"cagrad.py", "gradients.py", "solvers.py", "by_gradients.py", "task_gradients.py"}
    assert records.code_hash("cagrad", "mlp", "toy") > every | cagrad
    assert records.code_hash("rlw+cagrad", "mlp", "toy") > every | cagrad | {"rgw.py", "rlw.py"}
    assert records.code_hash("famo", "mlp", "toy") > every | {"famo.py", "history.py"}
    assert records.code_hash("rlw", "mlp", "toy", "sharpness") == rlw | {"sharpness.py"}


def test_code_that_is_hashed_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_hash_of", lambda files: files)
    monkeypatch.setattr(records, "code_hash", records.code_hash.__wrapped__)
    for weighting, network, data in itertools.product(METHODS, NETWORKS, ("toy", "digits", "cifar10")):
        assert all(file.is_file() for file in records.code_hash(weighting, network, data))


def test_stale() -> None:
    made = factory.record()
    assert not records.is_stale(made)
    assert records.is_stale(made | {"code": "0" * 16})


def test_frame_has_a_row_for_every_evaluation() -> None:
    made = factory.record(condition="none", seed=4)
    frame = records.to_frame([made, factory.record("slgrad", code="0" * 16)])
    assert len(frame) == 2 * len(made["evaluations"])
    row = frame.iloc[1]
    assert row["arm"] == "ew" and row["condition"] == "none" and row["seed"] == 4 and not row["stale"]
    assert row["epoch"] == made["evaluations"][1]["epoch"]
    assert row["test_auc"] == made["evaluations"][1]["test"]["auc"]
    assert row["tuning_loss"] == made["evaluations"][1]["tuning"]["loss"]
    assert row["variant"] == "cifar10-jpeg75" and row["weighting"] == "ew"
    assert frame["stale"].tolist() == [False] * 8 + [True] * 8
    assert not any("tasks" in column for column in frame)


def test_comparable_leaves_out_what_may_differ() -> None:
    first = factory.record()
    again = first | {"cost": {"seconds": 9.0}, "created": "2031-05-05", "environment": {}}
    assert records.comparable(first) == records.comparable(again)
    assert records.comparable(first) != records.comparable(first | {"train_loss": [0.0]})
