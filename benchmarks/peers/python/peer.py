"""An engine behind the protocol of `volley-bench compare ... peer=PROGRAM`.

    python peer.py duckdb --data DIR --suite tpch --threads 2

The first line on standard output says what the engine is, and which processes' CPU time counts. Each line on standard input is
then answered by one line, when all rows have come. The peer ends when its input does.
"""

import argparse
import json
import os
import sys

from engines import NAMES, open_engine
from tables import find_tables


def take_output():
    """The standard output for the protocol alone: what engines and their child processes print there goes to standard error."""
    output = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    sys.stdout.flush()
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return output


def say(output, message):
    output.write(json.dumps(message) + "\n")
    output.flush()


def answer(engine, line):
    """What comes of a question. The queries are the benchmark's own: whatever stops one is an answer, not the end."""
    try:
        return {"rows": engine.run(json.loads(line)["sql"])}
    except Exception as error:  # noqa: BLE001
        return {"error": f"{type(error).__name__}: {error}"}


def positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=NAMES)
    parser.add_argument("--data", required=True, metavar="DIR", help="folder of the tables")
    parser.add_argument("--suite", required=True, metavar="S", help="suite that the tables are of; all in the folder are there anyway")
    parser.add_argument("--threads", required=True, metavar="N", type=positive, help="threads that compute")
    arguments = parser.parse_args()
    output = take_output()
    engine = open_engine(arguments.engine, find_tables(arguments.data), arguments.threads)
    try:
        say(output, {"engine": engine.description, "pids": engine.pids})
        for line in sys.stdin:
            say(output, answer(engine, line))
    finally:
        engine.close()


if __name__ == "__main__":
    main()
