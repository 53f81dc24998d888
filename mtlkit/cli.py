"""`python -m mtlkit`: what its commands do; `arguments` says what they are given."""

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from mtlkit import files, paths
from mtlkit.arguments import parse
from mtlkit.errors import MtlkitError, one_of


def main(arguments: list[str] | None = None) -> None:
    """Parse and run; what is wrong with the input ends in one sentence on stderr, with exit code 1, or 2 where the
    command line itself is wrong."""
    options = parse(arguments)
    try:
        COMMANDS[options.command](options)
    except MtlkitError as error:
        print(f"mtlkit: {error}", file=sys.stderr)
        sys.exit(1)
    except ModuleNotFoundError as error:
        print(f"mtlkit: the package {error.name} is not installed in {sys.prefix}: use .venv/bin/python, which `make "
              "run` builds, or install what environment.yml lists.", file=sys.stderr)  # fmt: skip
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `| head` has read enough
        sys.stdout = None


def _run(options: argparse.Namespace) -> None:
    from mtlkit.launch import execute
    from mtlkit.studies import read_yaml

    if options.f and not options.f.is_file():
        raise MtlkitError(f"there is no file {options.f}; those of the repository lie in {paths.PARAMS}.")
    parameters = read_yaml(options.f) if options.f else {}
    parameters |= {name: _literal(value) for name, value in options.p}
    execute(options.experiment, options.o or paths.runs() / f"{options.experiment}.ipynb", parameters)


def _literal(text: str) -> object:
    """A number where the text is one; types are checked against the notebook anyway."""
    try:
        return json.loads(text) if text[:1] in "-0123456789" else text
    except json.JSONDecodeError:
        return text


def _show(options: argparse.Namespace) -> None:
    if not options.notebook.is_file():
        raise MtlkitError(f"there is no file {options.notebook}; `make run` and `mtlkit run` write to {paths.runs()}.")
    try:
        cells = json.loads(options.notebook.read_text())["cells"]
        outputs = [output for cell in cells if "result" in cell["metadata"].get("tags", [])
                   for output in cell.get("outputs", [])]  # fmt: skip
        shown = ["".join(one.get("text") or one.get("data", {}).get("text/plain", "")).rstrip() for one in outputs]
    except Exception as error:  # a file of another kind can have anything in their place
        raise MtlkitError(f"{options.notebook} is not an executed notebook ({type(error).__name__}).") from None
    if not shown:
        raise MtlkitError(f"{options.notebook} has no results; `python -m mtlkit run NAME -o FILE` runs a notebook.")
    for text in shown:
        print(text)


def _methods(options: argparse.Namespace) -> None:
    import inspect

    from mtlkit.weighting import METHODS, find

    if options.name:
        method = find(options.name)
        print(f"{options.name}{inspect.signature(method)}\n\n{inspect.getdoc(method)}")
        return
    for name, method in METHODS.items():
        print(f"{name:18} {(inspect.getdoc(method) or '').split(chr(10))[0]}")


def _data(options: argparse.Namespace) -> None:
    from mtlkit import overview

    if options.action == "prepare":
        if not options.name:
            raise MtlkitError(f"which data set is to be prepared is not said: one of {', '.join(overview.DATA_SETS)}.")
        chosen = overview.data_set(options.name)
        with _alone_in(paths.data_root(options.data_root)):
            print(chosen.prepare(options.data_root))
        return
    if options.data_root and not paths.data_root(options.data_root).is_dir():
        raise MtlkitError(f"there is no folder {options.data_root}; without --data-root it is {paths.data_root()}.")
    for name in [options.name] if options.name else overview.DATA_SETS:
        facts = overview.facts(name, options.data_root)
        print("\n".join(f"{key}: {value}" for key, value in facts.items()), end="\n\n")


@contextmanager
def _alone_in(root: Path) -> Iterator[None]:
    """Of two processes that prepare data in a folder, the second waits; whether it is writable, `prepare` says."""
    with ExitStack() as stack:
        with suppress(OSError):
            stack.enter_context(files.alone(root / ".prepare.lock"))
        yield


def _records(options: argparse.Namespace) -> None:
    from mtlkit import records

    found = records.read(options.folder)
    if not found:
        raise MtlkitError(f"there are no records below {options.folder}.")
    if options.action == "export":
        frame = records.to_frame(found)
        try:
            files.write(options.o, frame.to_csv(index=False))
        except OSError as error:
            raise MtlkitError(f"{options.o} cannot be written ({error}).") from None
        print(f"{len(frame)} rows from {len(found)} records written to {options.o}")
        return
    belong = {record["study"] for record in found}
    if "" in belong:
        raise MtlkitError("a record there belongs to no study; only the records of a study are adopted.")
    if len(belong) > 1:
        raise MtlkitError(
            f"the records there belong to several studies: {', '.join(sorted(belong))}; adopt one at a time."
        )
    for path in sorted(options.folder.rglob("*.json")):
        if (size := path.stat().st_size) > records.MAXIMUM_BYTES:
            raise MtlkitError(f"{path} has {size} bytes, a committed record at most {records.MAXIMUM_BYTES}; runs with "
                              "fewer `evaluations` have smaller ones.")  # fmt: skip
    target = paths.COMMITTED_RECORDS / found[0]["study"]
    partial = target.with_name(f".{target.name}.part")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(options.folder, partial)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise MtlkitError(f"the records cannot be copied to {target}: {error}.") from None
    print(f"{len(found)} records adopted in {target.relative_to(paths.ROOT)}")


def _verify(options: argparse.Namespace) -> None:
    from mtlkit import verify

    if options.commit is None:
        verify.again(options.count, options.jobs)
    else:
        print(verify.against(options.commit, options.jobs))


def _cell(options: argparse.Namespace) -> None:
    from mtlkit import records, studies
    from mtlkit.launch import execute

    study = studies.load(options.study)
    one_of("the condition", options.condition, study.conditions)
    one_of("the arm", options.arm, study.arms)
    parameters = study.parameters(options.scale, options.condition, options.arm, options.rate)
    parameters |= {"study": study.name, "condition": options.condition, "arm": options.arm,
                   "runs": str(paths.runs() / options.scale)}  # fmt: skip
    if options.seeds:
        parameters["seeds"] = options.seeds
    if options.rate is not None:
        parameters |= {"seeds": str(study.tuning["seeds"]), "evaluations": 1,
                       "runs": str(paths.runs() / options.scale / "tuning")}  # fmt: skip
    try:
        execute(study.experiment, options.o, parameters, show=False)
    except MtlkitError as error:
        from mtlkit.experiment import DIVERGED

        # A rate that is too high for some arm is an outcome of tuning, not a failure.
        if options.rate is None or DIVERGED not in str(error):
            raise
        print(f"{options.arm}, rate {options.rate:g}: {error}")
    if options.rate is None:
        folder = paths.runs() / options.scale / "records" / study.name / options.condition / options.arm
        for path in records.drop_superseded(folder, parameters):
            print(f"{path.name}: deleted, it was made with other parameters")


def _choose(options: argparse.Namespace) -> None:
    from mtlkit import studies, tuning

    study = studies.load(options.study)
    if other := study.rates_from(options.scale):
        raise MtlkitError(f"study {study.name} is not tuned at scale {options.scale}, it takes the rates of {other}.")
    print(tuning.choose(study, options.scale, paths.runs() / options.scale / "tuning" / "records" / study.name))


def _draw(options: argparse.Namespace) -> None:
    from mtlkit import drawing, records, studies

    study, folder = studies.load(options.study), paths.runs() / options.scale
    study.scale(options.scale)
    found = records.read(folder / "records" / study.name)
    if not found:
        raise MtlkitError(f"there are no records of {study.name} below {folder}; `make reproduce SCALE={options.scale} "
                          f"STUDIES={study.name}` makes them.")  # fmt: skip
    for path in drawing.draw_study(study, found, folder / "figures" / study.name, options.scale):
        print(path)


def _figures(options: argparse.Namespace) -> None:
    from mtlkit import gallery

    gallery.redraw()


def _bench(options: argparse.Namespace) -> None:
    from mtlkit.bench import bench

    bench(quick=options.quick, only=options.only, device=options.device, output=options.o)


COMMANDS = {
    "run": _run,
    "methods": _methods,
    "show": _show,
    "data": _data,
    "records": _records,
    "verify": _verify,
    "figures": _figures,
    "draw": _draw,
    "cell": _cell,
    "choose": _choose,
    "bench": _bench,
}
