"""What the commands of `python -m mtlkit` are given, and what `--help` says of them."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mtlkit.errors import suggestion

ME = "python -m mtlkit"


class Parser(argparse.ArgumentParser):
    """Says in one sentence what is wrong, with the nearest right word, and exits with code 2."""

    def error(self, message: str) -> NoReturn:
        """Called by argparse for whatever it cannot read."""
        if "-p: expected" in message:
            message += ", a name and a value, such as -p weighting ew"
        elif choice := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
            message += suggestion(choice[1], re.findall(r"[\w-]+", choice[2]))
        elif unknown := re.search(r"unrecognized arguments: (--?\w[\w-]*)", message):
            message += suggestion(unknown[1], [option for one in self._actions for option in one.option_strings])
        self.exit(2, f"mtlkit: {message}; `{self.prog} --help` says what there is.\n")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command, its name as `command`, and what it is given; by default what the shell gave."""
    parser = Parser(
        prog=ME,
        description="Multi-task learning with auxiliary tasks, reproducibly: run notebooks, keep records, draw tables.",
        epilog=f"`{ME} COMMAND --help` describes a command, with an example; `make help` lists short doors.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands", dest="command")

    def command(name: str, what: str, example: str, more: str = "") -> Parser:
        said = {"help": what, "description": f"{what[0].upper()}{what[1:]}. {more}"}
        one = commands.add_parser(name, **said, epilog=f"example: {ME} {name} {example}")
        one.set_defaults(parser=one)
        return one

    run = command("run", "run a notebook headless, as papermill does, with plain errors",
                  "toy_regression -p weighting rlw -p epochs 5",
                  "Records and figures go below its parameter runs (default MTLKIT_RUNS, else runs/).")  # fmt: skip
    run.add_argument("experiment", help="name of the notebook, such as cifar_flip")
    run.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
                     help="a parameter and its value, again and again; the notebook's first code cell lists them",
                     )  # fmt: skip
    run.add_argument("-f", type=Path, metavar="FILE",
                     help="a YAML file of parameters, such as params/nyuv2.quick.yaml; -p goes before it")  # fmt: skip
    run.add_argument("-o", type=Path, metavar="FILE", help="the executed notebook (default runs/<experiment>.ipynb)")

    methods = command("methods", "list the weighting methods, or print all about one of them", "cagrad")
    methods.add_argument("name", nargs="?", help="a method: formula, source, departures, options (default: list all)")

    show = command("show", "print the results of an executed notebook", "runs/cifar_flip.ipynb")
    show.add_argument("notebook", type=Path, help="what `make run`, papermill or the command run has written")

    data = command("data", "say which data sets are there, or prepare one", "prepare cifar10",
                   "CIFAR-10 and MNIST are downloaded and checked; files of the others have to be there, and are "
                   "converted.")  # fmt: skip
    data.add_argument("action", choices=("status", "prepare"), help="status of one or all, or prepare one")
    data.add_argument("name", nargs="?", help="the data set (default for status: all)")
    data.add_argument("--data-root", default="", metavar="FOLDER",
                      help="folder with the data (default MTLKIT_DATA, else data/)")  # fmt: skip

    records = command("records", "export records as CSV, or adopt those of a study as the committed ones",
                      "export runs/quick/records/toy -o toy.csv")  # fmt: skip
    records.add_argument("action", choices=("export", "adopt"), help="write a CSV file, or copy to figures/records/")
    records.add_argument("folder", type=Path, help="a folder of records, such as runs/desk/records/cifar_flip")
    records.add_argument("-o", type=Path, default=Path("records.csv"), metavar="FILE",
                         help="for export: the CSV file (default records.csv)")  # fmt: skip

    verify = command("verify", "repeat a sample of the committed records and compare", "--count 3",
                     "With a commit: records that its code made are no longer stale where short trainings of every arm "
                     "by its code and by today's agree to the last digit.")  # fmt: skip
    verify.add_argument("commit", nargs="?", help="a commit whose code made the records that are stale now")
    verify.add_argument("--count", type=_count, default=5, metavar="N", help="records that are repeated (default 5)")
    verify.add_argument("--jobs", type=_count, default=2, metavar="N", help="runs side by side (default 2)")

    command("figures", "redraw every table and figure from the committed records", "")
    draw = command("draw", "draw the tables and figures of a study from local records", "toy --scale quick")
    cell = command("cell", "run one cell of a study: a condition, an arm, its seeds",
                   "toy noise_0.2 slgrad --scale quick -o runs/cell.ipynb",
                   "`make reproduce` runs all of them.")  # fmt: skip
    choose = command("choose", "choose learning rates from tuning runs, and write them to params/tuned/",
                     "toy --scale desk", "`make tune` does the runs, and then this.")  # fmt: skip
    for one in (draw, cell, choose):
        one.add_argument("study", help="a file of params/studies/, without its ending")
        one.add_argument("--scale", required=True, help="one that the study has: quick, desk or paper")
    cell.add_argument("condition", help="one of the study's")
    cell.add_argument("arm", help="one of the study's")
    cell.add_argument("--seeds", help="some of its seeds, such as 0,1,2 (default all)")
    cell.add_argument("--rate", type=float, help="a learning rate that is being tried out, on the seeds for tuning")
    cell.add_argument("-o", type=Path, required=True, metavar="FILE", help="the executed notebook")

    bench = command("bench", "time a step of every method, and the training loop, beside plain ones",
                    "--quick --only lenet")  # fmt: skip
    bench.add_argument("--quick", action="store_true", help="one cell a network, a few seconds each")
    bench.add_argument("--only", metavar="NAME", help="one network, or one part: fit, gradients, solvers, runs")
    bench.add_argument("--device", default="cpu", help="auto, cpu (default), cuda, cuda:1")
    bench.add_argument("-o", type=Path, metavar="FILE", help="write the numbers as JSON")

    options, more = parser.parse_known_args(arguments)
    if more:
        options.parser.error(f"unrecognized arguments: {' '.join(more)}")
    return options


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)
