"""Engines with a Python interface, each in a module of its own.

A module is imported only when its engine is asked for, since no environment has all of their packages.
"""

import importlib

NAMES = ("duckdb", "sail", "spark")


def open_engine(name, tables, threads):
    """Starts an engine and makes the tables known to it.

    What comes back has `description`, `pids`, `run(sql)`, which returns the number of rows, and `close()`.
    """
    module = importlib.import_module(f"engines.{name}_engine")
    return module.Engine(tables, threads)
