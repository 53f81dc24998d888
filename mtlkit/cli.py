"""`python -m mtlkit`: run, methods, data, records, verify, cell, choose, draw, figures, show, bench."""

import argparse
import json
import shutil
import sys
from pathlib import Path

from mtlkit import paths
from mtlkit.errors import MtlkitError, one_of


def main(arguments: list[str] | None = None) -> None:
    """Parse and run; what is wrong with the input ends in one sentence on stderr and exit code 1."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except MtlkitError as error:
        print(f"mtlkit: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mtlkit", description="Multi-task learning with auxiliary tasks, reproducibly."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run a notebook headless, as papermill does, with plain errors")
    run.add_argument("experiment", help="name of the notebook, such as cifar_flip")
    run.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="a parameter")
    run.add_argument("-f", type=Path, help="a YAML file of parameters; -p goes before it")
    run.add_argument("-o", type=Path, help="the executed notebook (default runs/<experiment>.ipynb)")
    run.set_defaults(command=_run)

    methods = commands.add_parser("methods", help="the weighting methods, or all about one of them")
    methods.add_argument("name", nargs="?", help="a method")
    methods.set_defaults(command=_methods)

    show = commands.add_parser("show", help="print the results of an executed notebook")
    show.add_argument("notebook", type=Path)
    show.set_defaults(command=_show)

    data = commands.add_parser("data", help="state of the data sets, and how to get them")
    data.add_argument("action", choices=("status", "prepare"))
    data.add_argument("name", nargs="?", help="for prepare: the data set")
    data.add_argument("--data-root", default="", help="folder with prepared data (default MTLKIT_DATA, else data/)")
    data.set_defaults(command=_data)

    records = commands.add_parser(
        "records", help="export records as CSV, or adopt those of a scale as the committed ones"
    )
    records.add_argument("action", choices=("export", "adopt"))
    records.add_argument("folder", type=Path, help="a folder of records, such as runs/desk/records/cifar_flip")
    records.add_argument("-o", type=Path, default=Path("records.csv"), help="for export: the CSV file")
    records.set_defaults(command=_records)

    verify = commands.add_parser("verify", help="records of an older commit count if today's code gives the same")
    verify.add_argument("commit", help="a commit whose code made the records that are stale now")
    verify.add_argument("--jobs", type=int, default=2, help="runs side by side (default 2)")
    verify.set_defaults(command=_verify)

    figures = commands.add_parser("figures", help="redraw every table and figure from the committed records")
    figures.set_defaults(command=_figures)

    draw = commands.add_parser("draw", help="draw the tables and figures of a study from local records")
    draw.add_argument("study")
    draw.add_argument("--scale", required=True)
    draw.set_defaults(command=_draw)

    cell = commands.add_parser("cell", help="run one cell of a study: a condition, an arm, its seeds")
    cell.add_argument("study")
    cell.add_argument("condition")
    cell.add_argument("arm")
    cell.add_argument("--scale", required=True)
    cell.add_argument("--seeds", help="some of its seeds, such as 0,1,2 (default all)")
    cell.add_argument("--rate", type=float, help="a learning rate that is being tried out, on the seeds for tuning")
    cell.add_argument("-o", type=Path, required=True, help="the executed notebook")
    cell.set_defaults(command=_cell)

    choose = commands.add_parser("choose", help="choose learning rates from tuning runs")
    choose.add_argument("study")
    choose.add_argument("--scale", required=True)
    choose.set_defaults(command=_choose)

    bench = commands.add_parser("bench", help="time and memory of a step, and of the training loop, beside plain ones")
    bench.add_argument("--quick", action="store_true", help="one cell a network, a few seconds each")
    bench.add_argument("--only", metavar="NAME", help="one network, or one part: fit, gradients, solvers")
    bench.add_argument("--device", default="cpu", help="auto, cpu (default), cuda, cuda:1")
    bench.add_argument("-o", type=Path, metavar="FILE", help="write the numbers as JSON")
    bench.set_defaults(command=_bench)
    return parser


def _run(options: argparse.Namespace) -> None:
    from mtlkit.launch import execute
    from mtlkit.studies import read_yaml

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
    try:
        cells = json.loads(options.notebook.read_text())["cells"]
    except (OSError, ValueError, KeyError) as error:
        raise MtlkitError(f"{options.notebook} is not an executed notebook ({type(error).__name__}).") from None
    for cell in cells:
        if "result" in cell["metadata"].get("tags", []):
            for output in cell.get("outputs", []):
                text = output.get("text") or output.get("data", {}).get("text/plain", "")
                print("".join(text).rstrip())


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
        one_of("the data set", options.name, overview.DATA_SETS)
        reader = overview.data_set(options.name)
        if not hasattr(reader, "prepare"):
            raise MtlkitError(f"{options.name} needs no preparation: {reader.status(options.data_root)['how_to_prepare']}.")
        print(reader.prepare(options.data_root))
        return
    for name in [options.name] if options.name else overview.DATA_SETS:
        state = overview.data_set(name).status(options.data_root)
        print("\n".join(f"{key}: {value}" for key, value in state.items()), end="\n\n")


def _records(options: argparse.Namespace) -> None:
    from mtlkit import records

    found = records.read(options.folder)
    if not found:
        raise MtlkitError(f"there are no records below {options.folder}.")
    if options.action == "export":
        frame = records.to_frame(found)
        try:
            frame.to_csv(options.o, index=False)
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
    target = paths.COMMITTED_RECORDS / found[0]["study"]
    partial = target.with_name(f".{target.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(options.folder, partial)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    print(f"{len(found)} records adopted in {target.relative_to(paths.ROOT)}")


def _verify(options: argparse.Namespace) -> None:
    from mtlkit import verify

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
        # A rate that is too high for some arm is an outcome of tuning, not a failure.
        if options.rate is None or "try a smaller learning_rate" not in str(error):
            raise
        print(f"{options.arm}, rate {options.rate:g}: {error}")
    if options.rate is None:
        folder = paths.runs() / options.scale / "records" / study.name / options.condition / options.arm
        for path in records.drop_superseded(folder, parameters):
            print(f"{path.name}: deleted, it was made with other parameters")


def _choose(options: argparse.Namespace) -> None:
    from mtlkit import studies, tuning

    study = studies.load(options.study)
    print(tuning.choose(study, paths.runs() / options.scale / "tuning" / "records" / study.name))


def _draw(options: argparse.Namespace) -> None:
    from mtlkit import drawing, records, studies

    study, folder = studies.load(options.study), paths.runs() / options.scale
    found = records.read(folder / "records" / study.name)
    for path in drawing.draw_study(study, found, folder / "figures" / study.name, options.scale):
        print(path)


def _figures(options: argparse.Namespace) -> None:
    from mtlkit import gallery

    gallery.redraw()


def _bench(options: argparse.Namespace) -> None:
    from mtlkit.bench import bench

    bench(quick=options.quick, only=options.only, device=options.device, output=options.o)
