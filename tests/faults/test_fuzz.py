"""Any bytes and any structure in a file end in a value or in one sentence, whatever reads it."""

import io
import json
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mtlkit import claims, cli, paths, published, records, studies
from mtlkit.data import celeba, multi_mnist, nyuv2, pascal_context, sentences, sources, stored
from mtlkit.errors import MtlkitError
from tests import factory
from tests.test_studies import STUDY

pytestmark = pytest.mark.slow

Tried = Callable[..., None]
EXAMPLES = 200

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.binary(max_size=4)
)
KEYS = st.text(max_size=5) | st.integers() | st.none()
STRUCTURES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))


@st.composite
def changed(draw: st.DrawFn, whole: Any, other: st.SearchStrategy = STRUCTURES) -> Any:
    """A structure in which one part, anywhere, is another one, or is not there."""
    if isinstance(whole, dict | list) and whole and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(list(whole) if isinstance(whole, dict) else range(len(whole))))
        if not draw(st.integers(0, 5)):
            return {k: v for k, v in whole.items() if k != key} if isinstance(whole, dict) else whole[1:]
        part = draw(changed(whole[key], other))
        return whole | {key: part} if isinstance(whole, dict) else [*whole[:key], part, *whole[key + 1 :]]
    return draw(other)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Bytes of which some are others, or are missing at the end."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(0, 4))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content)


def fuzz(strategy: st.SearchStrategy, read: Callable[[Any], object], tried: Tried, examples: int = EXAMPLES) -> None:
    """`read` gives a value or one sentence."""
    count = []

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def each(value: Any) -> None:
        count.append(1)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # NumPy and Pillow warn of what they then refuse
                read(value)
        except MtlkitError as error:
            assert str(error), "a sentence"

    each()
    tried(len(count))


def file_of(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else yaml.safe_dump(content).encode())
    return path


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "PARAMS", tmp_path)
    for scale in ("quick", "desk"):
        file_of(tmp_path / f"toy.{scale}.yaml", {"epochs": 8})
    return tmp_path


def use(study: studies.Study) -> None:
    """What the workflow asks of a study."""
    for scale in study.scales:
        study.executions(scale)
        for condition, arm in study.cells():
            if (paths.PARAMS / f"{study.experiment}.{scale}.yaml").is_file():
                study.parameters(scale, condition, arm)
        for arm in study.tuned_arms(scale):
            study.rates(scale, arm)


YAML_TEXT = st.binary(max_size=200) | st.text(alphabet="{}[]:,-&*!|>'\"#%@` \n\tab01.~?", max_size=40).map(str.encode)


@pytest.mark.faults("fuzz: parameter files")
def test_parameter_files(tmp_path: Path, tried: Tried, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
                         ) -> None:  # fmt: skip
    import papermill

    monkeypatch.setattr(papermill, "execute_notebook", lambda *_, **__: None)
    known = {"weighting": "ew", "seeds": "0-2", "epochs": 3, "noise": 0.1}

    def read(content: Any) -> None:
        file = file_of(tmp_path / "p.yaml", content)
        try:
            cli.main(["run", "toy_regression", "-f", str(file), "-o", str(tmp_path / "out.ipynb")])
        except SystemExit as ended:
            assert ended.code == 1 and capsys.readouterr().err.startswith("mtlkit: ")

    fuzz(YAML_TEXT | changed(known), read, tried)


@pytest.mark.faults("fuzz: YAML of studies and tuned rates")
def test_studies(params: Path, tried: Tried) -> None:
    whole = yaml.safe_load(STUDY) | {"delta": {"metrics": ["auc"], "single_task": {"a": "ew"}}, "figures": ["boxes"],
                                     "committed": "desk", "tables": "every_task"}  # fmt: skip
    whole["arms"]["slow"] |= {"more_rates": [0.5]}
    whole["scales"]["desk"] |= {"chunk": 1, "conditions": ["some"], "rates": [0.1]}
    whole["scales"]["quick"] |= {"rates_of": "desk"}

    def read(content: Any) -> None:
        file_of(params / "studies" / "small.yaml", content)
        use(studies.load("small"))

    read(whole)
    fuzz(YAML_TEXT | changed(whole), read, tried, 3 * EXAMPLES)


@pytest.mark.faults("fuzz: YAML of studies and tuned rates")
def test_tuned_rates(params: Path, tried: Tried) -> None:
    file_of(params / "studies" / "small.yaml", STUDY.encode())

    def read(content: Any) -> None:
        file_of(params / "tuned" / "small.desk.yaml", content)
        use(studies.load("small"))

    fuzz(YAML_TEXT | changed({"metric": "loss", "arms": {"ew": {"learning_rate": 0.1, "scores": {}}}}), read, tried)


@pytest.mark.faults("fuzz: YAML of claims and published tables")
def test_claims(params: Path, tried: Tried) -> None:
    file_of(params / "studies" / "small.yaml", STUDY.encode())
    comparison = {"arm": "slow", "against": "ew", "conditions": ["some"], "metric": "loss", "margin": 0.1, "name": "x"}
    of_weights = {"arm": "slow", "chance": 0.5, "conditions": "all", "metric": "weight", "margin": 0.1}
    family = {"question": "?", "study": "small", "scale": "desk", "at": "last", "by": "loss", "exploratory": True,
              "comparisons": [comparison, of_weights]}  # fmt: skip
    claim = {"claim": "c", "source": "s", "rests_on": [{"family": "one", "arm": "slow"}], "figures": ["x.png"]}
    whole = {"claims": [claim, {"claim": "d", "source": "s", "why": "w"}], "families": {"one": family}}

    def read(content: Any) -> None:
        file = file_of(params / "claims.yaml", content)
        claims.load(file)
        claims.statements(file)

    read(whole)
    fuzz(YAML_TEXT | changed(whole), read, tried, 2 * EXAMPLES)


@pytest.mark.faults("fuzz: YAML of claims and published tables")
def test_published(tmp_path: Path, tried: Tried) -> None:
    table = {"name": "n", "source": "s", "data": "d", "where": {"network": "deeplab"}, "like": {"epochs": 3},
             "columns": {"depth": ["loss"]}, "factor": 0.1, "delta": {"kind": "p", "against": "EW"},
             "rows": {"EW": [1.0, 0], "X": 2}}  # fmt: skip
    whole = {"methods": {"EW": "ew"}, "tables": [table]}

    def read(content: Any) -> None:
        for one in published.read(file_of(tmp_path / "p.yaml", content)):
            one.texts()
            one.differences([factory.record()])
            one.belongs([factory.record()], ["depth"])

    read(whole)
    fuzz(YAML_TEXT | changed(whole), read, tried, 2 * EXAMPLES)


@pytest.mark.faults("fuzz: records")
def test_records(tmp_path: Path, tried: Tried) -> None:
    whole = records.rounded(factory.record())

    def read(content: Any) -> None:
        file = tmp_path / "x.json"
        file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        records.is_stale(records.load(file))

    plain = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    )
    records.write(whole, tmp_path / "y.json")
    text = (tmp_path / "y.json").read_bytes()
    deep = st.sampled_from([b"[" * 100_000, b'{"a":' * 100_000, b"1" * 5000, b'{"schema":1e999}', b"NaN"])
    fuzz(st.binary(max_size=100) | damaged(text) | changed(whole, plain) | deep, read, tried, 2 * EXAMPLES)


@pytest.mark.faults("fuzz: records")
def test_equivalent(tmp_path: Path, tried: Tried, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "EQUIVALENT", tmp_path / "equivalent.yaml")

    def read(content: Any) -> None:
        file_of(records.EQUIVALENT, content)
        records.equivalent.cache_clear()
        records.same_as.cache_clear()
        records.is_stale(factory.record(code="a"))

    try:
        fuzz(YAML_TEXT | changed([{"old": "a", "new": "b", "commit": "c"}, {"old": "b", "new": "a"}]), read, tried)
    finally:
        records.equivalent.cache_clear()
        records.same_as.cache_clear()


@pytest.mark.faults("fuzz: executed notebooks")
def test_show(tmp_path: Path, tried: Tried, capsys: pytest.CaptureFixture) -> None:
    cell = {"metadata": {"tags": ["result"]}, "outputs": [{"text": ["a"]}, {"data": {"text/plain": "b"}}]}

    def read(content: Any) -> None:
        file = tmp_path / "x.ipynb"
        file.write_bytes(
            content if isinstance(content, bytes) else json.dumps(content, default=str, skipkeys=True).encode()
        )
        try:
            cli.main(["show", str(file)])
        except SystemExit as ended:
            said = capsys.readouterr().err
            assert ended.code == 1 and ("is not an executed notebook" in said or "has no results" in said)

    fuzz(st.binary(max_size=50) | changed({"cells": [cell]}), read, tried)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def image(kind: str, mode: str = "RGB") -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new(mode, (5, 4)).save(file, kind)
    return file.getvalue()


HEADERS = st.builds(
    lambda descr, order, shape: b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text := (
        f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode())) % 65536) + text + bytes(60),
    st.sampled_from(["'|u1'", "'<f4'", "'|O'", "'<U3'", "'<c8'", "[('a', '<i4')]", "'<M8[s]'", "7", "'zz'", "'>f8'"]),
    st.sampled_from(["False", "True", "None", "1"]),
    st.sampled_from(["(4, 5, 3)", "(4, 5)", "()", "(0, 5, 3)", "(-1,)", "(10**30,)", "(4, 5", "[4]", "(2.5,)", "'x'"]),
)  # fmt: skip
"""Of .npy files."""

ARRAYS = arrays.arrays(
    arrays.scalar_dtypes() | arrays.array_dtypes(max_size=2), arrays.array_shapes(min_dims=0, max_dims=4, max_side=5)
)


@pytest.mark.faults("fuzz: images and .npy files of prepared sources")
@pytest.mark.parametrize("suffix", [".npy", ".png", ".jpg"])
def test_images_and_arrays(suffix: str, tmp_path: Path, tried: Tried) -> None:
    """As they are read, and held against their fields."""
    fields = (sources.IMAGE, *nyuv2.FIELDS)

    def read(content: bytes) -> None:
        file = tmp_path / f"x{suffix}"
        file.write_bytes(content)
        found = sources.read(file)
        for field in fields:
            try:
                field.check(found, (4, 5), file)
            except MtlkitError:
                continue
            field.fit(found, (6, 6))

    good = [npy(np.zeros((4, 5, 3), np.uint8)), npy(np.zeros((4, 5), np.int8)), npy(np.full((4, 5, 1), 1.5))]
    good += [image("PNG", mode) for mode in ("RGB", "P", "1", "L", "LA", "RGBA", "I;16")] + [image("JPEG", "CMYK")]
    every = st.one_of(st.binary(max_size=100), HEADERS, ARRAYS.map(npy), *map(damaged, good), *map(st.just, good))
    fuzz(every, read, tried, EXAMPLES * 2)


@pytest.mark.faults("fuzz: images and .npy files of prepared sources")
def test_whole_sources(tmp_path: Path, tried: Tried) -> None:
    """mtan's layout and PASCAL-Context's, one image in them."""
    pascal = {"image": ".jpg", "semseg": ".png", "human_parts": ".png", "saliency": ".png", "normal": ".png"}

    def read(drawn: tuple[str, str, bytes]) -> None:
        layout, field, content = drawn
        good = {
            "image": np.zeros((4, 5, 3)),
            "label": np.zeros((4, 5)),
            "depth": np.ones((4, 5, 1)),
            "normal": np.ones((4, 5, 3)),
        }
        if layout == "mtan":
            folder = tmp_path / "mtan"
            for split in ("train", "val"):
                for name, array in good.items():
                    file_of(folder / split / name / "0.npy", content if name == field else npy(array))
            source = sources.mtan(folder, "nyuv2-mtan", nyuv2.FIELDS)
        else:
            item = {}
            for name, suffix in pascal.items():
                whole = image("JPEG") if name == "image" else image("PNG", "RGB" if name == "normal" else "L")
                item[name] = file_of(tmp_path / "pascal" / f"{name}{suffix}", content if name == field else whole)
            source = sources.Source("p", pascal_context.FIELDS, {"train": [item]}, pascal_context._read, [])
        stored.in_memory(source, (6, 6))

    images = [image("PNG", mode) for mode in ("RGB", "P", "1", "L", "LA", "RGBA", "I;16")] + [image("JPEG", "CMYK")]
    content = st.one_of(HEADERS, ARRAYS.map(npy), *map(st.just, images), damaged(image("PNG")))
    where = st.tuples(st.just("mtan"), st.sampled_from(["image", "label", "depth", "normal"])) | st.tuples(
        st.just("pascal"), st.sampled_from(list(pascal)))  # fmt: skip
    fuzz(st.tuples(where, content).map(lambda drawn: (*drawn[0], drawn[1])), read, tried, EXAMPLES)


@pytest.mark.faults("fuzz: prepared data sets")
def test_prepared_sets(tmp_path: Path, tried: Tried) -> None:
    meta = {"version": 1, "variant": "v", "checksum": "0", "size": [4, 5], "sizes": {"train": 2, "test": 1},
            "fields": ["image", "present"]}  # fmt: skip
    sizes = {"train": 2, "test": 1}
    good = {(split, name): npy(np.zeros((count, *shape), np.uint8)) for split, count in sizes.items()
            for name, shape in (("image", (3, 4, 5)), ("present", (1,)))}  # fmt: skip

    def read(drawn: tuple[Any, Any, bytes]) -> None:
        described, place, content = drawn
        for at, whole in good.items():
            file_of(tmp_path / at[0] / f"{at[1]}.npy", content if at == place else whole)
        (tmp_path / "meta.json").write_bytes(
            described if isinstance(described, bytes) else json.dumps(described, default=str, skipkeys=True).encode()
        )
        found = stored.open_prepared(tmp_path)
        assert {len(found.of["train"]["image"]), len(found.of["train"]["present"])} == {2}

    content = st.one_of(HEADERS, ARRAYS.map(npy), damaged(good["train", "image"]), st.binary(max_size=50))
    every = st.tuples(st.just(meta), st.sampled_from(list(good)), content) | st.tuples(
        st.binary(max_size=50) | changed(meta), st.none(), st.just(b""))  # fmt: skip
    fuzz(every, read, tried, 2 * EXAMPLES)


@pytest.mark.faults("fuzz: IDX files of MNIST")
def test_idx(tmp_path: Path, tried: Tried) -> None:
    import gzip

    def read(drawn: tuple[bool, bytes]) -> None:
        packed, content = drawn
        for name in ("x", "x.gz"):
            (tmp_path / name).unlink(missing_ok=True)
        (tmp_path / ("x.gz" if packed else "x")).write_bytes(content)
        multi_mnist._array(tmp_path / "x", (28, 28))

    whole = struct.pack(">4i", 0x803, 2, 28, 28) + bytes(2 * 28 * 28)
    heads = st.tuples(*[st.integers(-(2**31), 2**31 - 1)] * 4).map(lambda four: struct.pack(">4i", *four) + bytes(50))
    fuzz(
        st.tuples(st.booleans(), st.binary(max_size=60) | heads | damaged(whole) | damaged(gzip.compress(whole))),
        read,
        tried,
    )


@pytest.mark.faults("fuzz: tables of text")
@pytest.mark.parametrize("name", ["train-en.tsv", "test-en.tsv", "en_x-ud-train.conllu"])
@pytest.mark.parametrize("problem", ["udpos", "pawsx"])
def test_sentences(name: str, problem: str, tmp_path: Path, tried: Tried) -> None:
    conllu = b"# text\n1\tThe\tthe\tDET\t_\t_\t_\t_\t_\t_\n1-2\tx\t_\tX\t_\t_\t_\t_\t_\t_\n\n"
    whole = (
        conllu if name.endswith("conllu") else b"The\tDET\ncat\tNOUN\n\n" if problem == "udpos" else b"a b\tc d\t1\n"
    )
    text = st.text(alphabet="a\t\n\r01- \u2028\ufeff_#.", max_size=60).map(str.encode)

    def read(content: bytes) -> None:
        sentences.read(file_of(tmp_path / name, content), sentences.PROBLEMS[problem])

    fuzz(st.binary(max_size=60) | text | damaged(whole * 3), read, tried)


@pytest.mark.faults("fuzz: tables of text")
def test_celeba(tmp_path: Path, tried: Tried) -> None:
    names = ["000001.jpg", "000002.jpg", "000003.jpg"]
    parts = "".join(f"{name} {k}\n" for k, name in enumerate(names)).encode()
    table = "\n".join(["3", " ".join(celeba.ATTRIBUTES), *(f"{name} {'1 -1 ' * 20}" for name in names)]).encode()

    def read(drawn: tuple[bytes, bytes]) -> None:
        first, second = (file_of(tmp_path / f"{k}.txt", content) for k, content in enumerate(drawn))
        celeba._attributes(second, celeba._partition(first))
        pascal_context._names(first)

    fuzz(st.tuples(damaged(parts) | st.binary(max_size=60), st.just(table))
         | st.tuples(st.just(parts), damaged(table) | st.binary(max_size=60)), read, tried)  # fmt: skip


@pytest.mark.faults("fuzz: MATLAB files")
def test_matlab(tmp_path: Path, tried: Tried) -> None:
    from scipy.io import savemat

    savemat(tmp_path / "good.mat", {"mapClass": np.arange(894), "anno": {"objects": np.zeros(2)}})
    whole = (tmp_path / "good.mat").read_bytes()

    def read(content: bytes) -> None:
        file = file_of(tmp_path / "x.mat", content)
        for one in (lambda: nyuv2._table(file, "mapClass"), lambda: pascal_context._person_parts(file, (4, 5))):
            try:
                one()
            except MtlkitError:
                continue

    fuzz(st.binary(max_size=60) | damaged(whole), read, tried)
