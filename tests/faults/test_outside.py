"""What comes from outside: downloads that are interrupted, archives with a payload, two processes at once, parameters
that look like code."""

import ast
import functools
import hashlib
import io
import json
import pickle
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import papermill.translators
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mtlkit import cli, paths, studies
from mtlkit.data import cifar10, multi_mnist, nyuv2, sources, stored
from mtlkit.errors import MtlkitError
from mtlkit.weighting import build
from tests.data.test_multi_mnist import archive

Tried = Callable[..., None]
ROOT = Path(__file__).resolve().parents[2]


class Server:
    """Serves the files of a folder to this machine alone; of those in `cut`, the first half, as if the line broke."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cut, self.asked = folder, set(), []
        server = self

        class Handler(SimpleHTTPRequestHandler):
            def copyfile(self, source: io.BufferedReader, outputfile: io.BufferedIOBase) -> None:
                server.asked.append(Path(self.path).name)
                content = source.read()
                half = Path(self.path).name in server.cut
                outputfile.write(content[: len(content) // 2] if half else content)

            def log_message(self, *_: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                pass  # torchvision asks for the address of a file first and hangs up

        self.running = Quiet(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.running.server_port}"
        threading.Thread(target=self.running.serve_forever, daemon=True).start()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "served").mkdir()
    made = Server(tmp_path / "served")
    yield made
    made.running.shutdown()
    made.running.server_close()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def mnist(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Serves MNIST's four files, smaller than they are."""
    from torchvision.datasets import MNIST

    files = sorted(archive(tmp_path / "made").iterdir())
    for file in files:
        file.rename(server.folder / file.name)
    monkeypatch.setattr(MNIST, "mirrors", [f"{server.url}/"])
    monkeypatch.setattr(MNIST, "resources",
                        [(file.name, md5((server.folder / file.name).read_bytes())) for file in files])  # fmt: skip
    return server


@pytest.mark.faults("interrupted download")
@pytest.mark.parametrize("cut", ["t10k-labels-idx1-ubyte.gz", "train-labels-idx1-ubyte.gz"])
def test_interrupted_download(cut: str, mnist: Server, tmp_path: Path) -> None:
    """The next call fetches what is missing, and nothing else."""
    root = str(tmp_path / "data")
    mnist.cut = {cut}
    with pytest.raises(MtlkitError, match="MNIST could not be downloaded") as info:
        multi_mnist.prepare(root)
    assert "\n" not in str(info.value) and not multi_mnist.status(root)["found"]
    mnist.cut, mnist.asked = set(), []
    multi_mnist.prepare(root)
    assert mnist.asked[0] == cut and len(set(mnist.asked)) < 4 and multi_mnist.status(root)["found"]
    multi_mnist.load(0, source="real", data_root=root)


@pytest.mark.faults("interrupted unpacking")
@pytest.mark.parametrize("left", [0, 10, 1000])
def test_interrupted_unpacking(left: int, mnist: Server, tmp_path: Path) -> None:
    """torchvision unpacks beside the archive and takes what is there for whole: ours does not."""
    root = tmp_path / "data"
    multi_mnist.prepare(str(root))
    unpacked = root / "MNIST" / "raw" / "train-images-idx3-ubyte"
    whole = unpacked.read_bytes()
    unpacked.write_bytes(whole[:left])
    multi_mnist.prepare(str(root))
    assert unpacked.read_bytes() == whole
    unpacked.write_bytes(whole[:left])
    with pytest.raises(MtlkitError, match=r"train-images-idx3-ubyte cannot be read as MNIST .* run `python -m mtlkit"):
        multi_mnist.load(0, source="real", data_root=str(root))


class Bomb:
    """An object whose unpickling would be noticed."""

    def __reduce__(self) -> tuple:
        return pytest.fail, ("something from outside was unpickled",)


def bombs(folder: str) -> bytes:
    """An archive that unpacks outside of its folder, and into it pickled payloads in place of CIFAR-10's batches."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in ("../evil", f"{folder}/data_batch_1", f"{folder}/batches.meta"):
            content = pickle.dumps(Bomb())
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


@pytest.mark.faults("data archive with path traversal or a pickled payload")
@pytest.mark.parametrize("way", ["served", "there", "unpacked"])
def test_archive_with_a_payload(way: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR10

    root, content = tmp_path / "deep" / "data", bombs(CIFAR10.base_folder)
    root.mkdir(parents=True)
    if way == "served":
        (server.folder / CIFAR10.filename).write_bytes(content)
        monkeypatch.setattr(CIFAR10, "url", f"{server.url}/{CIFAR10.filename}")
    else:
        monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/nothing-listens-here.tar.gz")
    if way == "there":
        (root / CIFAR10.filename).write_bytes(content)
    if way == "unpacked":
        (root / CIFAR10.base_folder).mkdir()
        for name in ("data_batch_1", "batches.meta"):
            (root / CIFAR10.base_folder / name).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(MtlkitError, match="incomplete or damaged"):
            cifar10.load(0, source="real", data_root=str(root))
    with pytest.raises(MtlkitError, match="CIFAR-10 could not be downloaded") as info:
        cifar10.prepare(str(root))
    assert "\n" not in str(info.value)
    assert not list(tmp_path.rglob("evil")), "nothing was unpacked outside"


@pytest.mark.faults("data archive with path traversal or a pickled payload")
def test_arrays_with_a_payload(tmp_path: Path, tried: Tried) -> None:
    bomb = np.array([Bomb()], dtype=object)
    np.save(tmp_path / "image.npy", bomb)
    np.savez(tmp_path / "cifar10.npz", x_train=bomb)
    with pytest.raises(MtlkitError, match="damaged or not what its name says"):
        sources.read(tmp_path / "image.npy")
    with pytest.raises(MtlkitError, match="holds pickled objects"):
        cifar10.load(0, source="real", data_root=str(tmp_path))
    (tmp_path / "p" / "train").mkdir(parents=True)
    (tmp_path / "image.npy").rename(tmp_path / "p" / "train" / "image.npy")
    meta = {"version": 1, "variant": "x", "checksum": "0", "fields": ["image"], "sizes": {"train": 1}}
    (tmp_path / "p" / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(MtlkitError, match="is damaged"):
        stored.open_prepared(tmp_path / "p")
    (tmp_path / "t.mat").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(MtlkitError, match="cannot be read"):
        nyuv2._table(tmp_path / "t.mat", "a")
    tried(4)


@pytest.mark.faults("YAML with a payload")
@pytest.mark.parametrize("text", ["a: !!python/object/apply:pytest.fail [run]", "!!python/name:os.system ''",
                                  "a: !!python/module:os ''", "a: !!python/tuple [1]"])  # fmt: skip
def test_yaml_with_a_payload(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(MtlkitError, match=r"a\.yaml cannot be read as YAML \(ConstructorError"):
        studies.read_yaml(tmp_path / "a.yaml")


CODE = ('"; raise SystemExit; "', "__import__('os').abort()", "{{1}}", "\\", '"""', "'", "\n\nraise SystemExit\n#",
        "\r", "\u2028x", "\0", "%abort", "!abort", "$(abort)", "`abort`")  # fmt: skip


@pytest.mark.faults("parameter that looks like code")
def test_parameters_are_never_code(tried: Tried) -> None:
    """Papermill writes them into a cell as literals; ours go through it, or are read by `build` without evaluation."""
    seen = []

    @given(st.text())
    @example("x")
    def injected(text: str) -> None:
        seen.append(text)
        written = papermill.translators.PythonTranslator.codify({"study": text, "options": [text]})
        assign = [node for node in ast.parse(written).body if not isinstance(node, ast.Expr)]
        assert [type(node) for node in assign] == [ast.Assign] * 2, "no other statement comes in"
        assert [ast.literal_eval(node.value) for node in assign] == [text, [text]]

    for text in CODE:
        injected = example(text)(injected)
    injected()
    for text in CODE:
        with pytest.raises(MtlkitError):
            build("cagrad", 3, {"options": f"c={text}"})
    tried(len(set(seen)) + len(CODE))


PREPARE = """
import sys, time
from pathlib import Path
import numpy as np
from mtlkit.data import sources, stored

def read(item):
    time.sleep(0.02)
    print("read", item["image"], flush=True)
    return {"image": np.full((6, 8, 3), item["seed"], np.uint8), "label": np.zeros((6, 8), int)}

folder = Path(sys.argv[1])
items = {split: [{"image": f"{split} {k}", "seed": k} for k in range(10)] for split in ("train", "test")}
label = sources.Field("label", "segmentation", np.int8, classes=3)
made = stored.prepare(sources.Source("small", (label,), items, read, [folder / "source"]), (6, 8), folder / "prepared")
print(stored.open_prepared(made).checksum)
"""


@pytest.mark.slow
@pytest.mark.faults("two processes that prepare the same data set")
def test_two_processes_prepare_once(tmp_path: Path) -> None:
    (tmp_path / "source").write_text("20 images")
    command = [sys.executable, "-c", PREPARE, str(tmp_path)]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0].splitlines() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(line.startswith("read") for lines in said for line in lines) == 20, "one of them wrote"
    assert said[0][-1] == said[1][-1], "and both read"
    assert len(list((tmp_path / "prepared").iterdir())) == 1


@pytest.mark.faults("two processes that prepare the same data set")
def test_two_that_download_do_it_once(mnist: Server, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = tmp_path / "data"
    both = [threading.Thread(target=cli.main, args=(["data", "prepare", "mnist", "--data-root", str(root)],))
            for _ in range(2)]  # fmt: skip
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert len(mnist.asked) == 2 * 4 and capsys.readouterr().out.count(str(root / "MNIST")) == 2
    assert multi_mnist.status(str(root))["found"]


FORBIDDEN = {"eval", "exec", "compile", "__import__"}
MODULES = {"pickle", "dill", "joblib", "shelve", "marshal", "cloudpickle", "tarfile"}


def faults_of(tree: ast.AST) -> Iterator[str]:
    """What runs code from outside, or writes where an archive says."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            yield from (f"import of {name}" for name in names if name.split(".")[0] in MODULES)
        if not isinstance(node, ast.Call):
            continue
        said = ast.unparse(node.func)
        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
        if said in FORBIDDEN or said.endswith((".extractall", ".extract", "unpack_archive", "os.system", "os.popen")):
            yield said
        if said.endswith("torch.load") and given.get("weights_only") != "True":
            yield f"{said} without weights_only=True"
        if said.startswith("yaml.") and said not in ("yaml.safe_load", "yaml.safe_dump"):
            yield said
        if given.get("allow_pickle", "False") != "False" or given.get("shell", "False") != "False":
            yield f"{said} with {given}"


@pytest.mark.faults("source that would run what comes from outside")
def test_source(tried: Tried) -> None:
    trees = {path: ast.parse(path.read_text()) for path in (paths.ROOT / "mtlkit").rglob("*.py")}
    for path in paths.NOTEBOOKS.glob("*.ipynb"):
        cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
        trees[path] = ast.parse("\n".join("".join(cell["source"]) for cell in cells))
    assert {str(path): found for path, tree in trees.items() if (found := list(faults_of(tree)))} == {}
    tried(len(trees))


@pytest.mark.parametrize("code", ["torch.load(f)", "torch.load(f, weights_only=False)", "yaml.load(f)", "eval('1')",
                                  "import pickle", "from pickle import loads", "np.load(f, allow_pickle=True)",
                                  "exec(s)", "a.extractall('/')", "subprocess.run(s, shell=True)"])  # fmt: skip
def test_the_check_of_the_source_sees(code: str) -> None:
    assert list(faults_of(ast.parse(code)))
