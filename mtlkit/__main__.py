import signal
import sys

# Before anything that an older Python cannot read.
if sys.version_info < (3, 11):  # noqa: UP036
    sys.exit(f"mtlkit: Python {sys.version.split()[0]} is too old, 3.11 or newer is needed.")

from mtlkit.cli import main

# What `kill` and scancel send. Ending as after Ctrl-C takes the kernel, its sockets and half a notebook along.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
main()
