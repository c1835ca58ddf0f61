"""Crash recorder: a preloaded shim that keeps every write and sync, and a disk that forgets on demand.

`shim.py` compiles and preloads shim.c, `disk.py` rebuilds the directory as of an instant of its record.
"""
