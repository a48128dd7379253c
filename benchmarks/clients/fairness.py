"""Whether a tiny query stays quick beside a huge one on the same cluster.

    python fairness.py --cluster grpc://127.0.0.1:50050 --huge ../queries/tpch/q18.sql --tiny "SELECT count(*) FROM nation"

Runs the tiny query alone, then again and again while the huge one runs, each on a connection of its own. Needs
adbc-driver-flightsql and pyarrow from PyPI.
"""

import argparse
import pathlib
import statistics
import threading
import time

from latency import connect, milliseconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cluster", default="grpc://127.0.0.1:50050")
    parser.add_argument("--huge", required=True, type=pathlib.Path, help="file of the long query")
    parser.add_argument("--tiny", required=True, help="the short query")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="setting of both sessions")
    args = parser.parse_args()
    with connect(args.cluster) as one, connect(args.cluster) as other, one.cursor() as tiny, other.cursor() as huge:
        for setting in args.set:
            name, value = setting.split("=", 1)
            for cursor in (tiny, huge):
                cursor.execute(f"SET {name} = '{value}'")
        alone = [milliseconds(tiny, args.tiny) for _ in range(55)][5:]
        ended = threading.Event()
        seconds = []

        def run():
            start = time.perf_counter()
            huge.execute(args.huge.read_text())
            huge.fetchall()
            seconds.append(time.perf_counter() - start)
            ended.set()

        thread = threading.Thread(target=run)
        thread.start()
        beside = []
        while not ended.is_set():
            beside.append(milliseconds(tiny, args.tiny))
            ended.wait(0.05)
        thread.join()
    beside = beside[:-1] or beside  # the last may have run after the end
    middle, worst = statistics.median(beside), max(beside)
    before = statistics.median(alone)
    print(f"alone: median {before:.2f} ms of {len(alone)}")
    print(f"beside {args.huge.name} ({seconds[0]:.1f} s): median {middle:.2f} ms, most {worst:.2f} ms of {len(beside)}")
    print(f"ratio of medians {middle / before:.2f}, of the worst {worst / before:.2f}")


if __name__ == "__main__":
    main()
