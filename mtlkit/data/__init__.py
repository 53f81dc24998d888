"""Data sets, a file or a folder each: `load(seed, ...)` returns a `Dataset` on the CPU and never downloads."""
