import signal
import sys

from mtlkit.cli import main

# What `kill` and scancel send. Ending as after Ctrl-C takes the kernel, its sockets and half a notebook along.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
main()
