"""Data sets, one file each: ``load(seed, ...)`` returns a `Dataset` on the CPU and never downloads."""
