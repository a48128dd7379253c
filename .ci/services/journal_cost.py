"""What the journal costs: TPC-H with and without it, query by query in turns, by hand.

    VOLLEY_BIN=target/release/volley python journal_cost.py DATA [PAIRS]

DATA is a folder with TPC-H as Parquet files. Two clusters stand side by side, of one scheduler and two executors of one slot each; one
keeps its state in a directory, the other in memory. CPU time is that of the three processes, from before a query to after its rows.
Prints the ratio of each pair of runs of all queries, what the journal wrote for each job, and the longest poll of each query.
"""

import os
import pathlib
import re
import sys
import tempfile
import time

from conftest import Cluster, wait_until
from test_restart import QUERIES, Session
from time_factor import TABLES

TICK = os.sysconf("SC_CLK_TCK")
WRITTEN = re.compile(r"the journal has the job's end job=\S+ written=(\d+)")


class Kept(Cluster):
    """A cluster whose scheduler keeps its state in a directory, or nowhere."""

    def __init__(self, folder, is_kept, data):
        folder.mkdir()
        super().__init__(folder, {"VOLLEY_LOG": "info,volley_scheduler::journal=debug"}, warehouse=folder / "warehouse")
        place = ["--state-dir", folder / "state"] if is_kept else ["--state", "memory"]
        self.start("scheduler", "scheduler", "--listen", self.address, "--http", self.http, "--warehouse", self.warehouse, *place)
        for number in (1, 2):
            self.executor(number, memory="3GiB")
        wait_until("two executors", lambda: self.executors() == 2)
        for table in TABLES:
            self.sql(f"CREATE EXTERNAL TABLE {table} STORED AS PARQUET LOCATION '{data}/{table}.parquet'")
        self.session = Session(self, "cost", timeout=600)

    def cpu_seconds(self):
        def ticks(process):
            fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
            return int(fields[11]) + int(fields[12])
        return sum(map(ticks, self.processes)) / TICK

    def measured(self, text):
        """CPU seconds, wall seconds, rows, the name of the job."""
        cpu, started = self.cpu_seconds(), time.monotonic()
        ticket, job = self.session.accepted(text)
        rows = self.session.rows(ticket)
        wall = time.monotonic() - started
        # What is done behind the client's back is over by then.
        time.sleep(0.2)
        return self.cpu_seconds() - cpu, wall, rows, job

    def journal_bytes(self):
        return [int(written) for written in WRITTEN.findall((self.folder / "scheduler.log").read_text())]


def pairs(kept, bare, texts, times):
    polls = {}
    for pair in range(times):
        sums = {kept: [0.0, 0.0], bare: [0.0, 0.0]}
        for at, text in enumerate(texts):
            answers = []
            for cluster in (kept, bare) if (pair + at) % 2 else (bare, kept):
                cpu, wall, rows, job = cluster.measured(text)
                sums[cluster][0] += cpu
                sums[cluster][1] += wall
                answers.append(rows)
                longest = max(stage["longest_poll_s"] for stage in cluster.told("job", job)["stages"])
                polls[at] = max(polls.get(at, 0.0), longest)
            assert sorted(map(str, answers[0])) == sorted(map(str, answers[1])), text
        (cpu, wall), (bare_cpu, bare_wall) = sums[kept], sums[bare]
        print(f"pair {pair + 1}: CPU {cpu:.1f} / {bare_cpu:.1f} s = {cpu / bare_cpu:.4f}, wall {wall:.1f} / {bare_wall:.1f} s = {wall / bare_wall:.4f}", flush=True)
        yield cpu / bare_cpu, polls


def main():
    data = pathlib.Path(sys.argv[1]).resolve()
    times = int(sys.argv[2]) if len(sys.argv) > 2 else 9
    texts = [(QUERIES / f"q{number:02}.sql").read_text() for number in range(1, 23)]
    with tempfile.TemporaryDirectory() as folder:
        clusters = []
        try:
            for name in ("kept", "bare"):
                clusters.append(Kept(pathlib.Path(folder) / name, name == "kept", data))
            for cluster in clusters:
                for text in texts:
                    cluster.measured(text)
            measured = list(pairs(*clusters, texts, times))
            ratios = sorted(ratio for ratio, _ in measured)
            print(f"CPU with the journal / without: median {ratios[len(ratios) // 2]:.4f}, from {ratios[0]:.4f} to {ratios[-1]:.4f}")
            written = sorted(clusters[0].journal_bytes())
            print(f"journal bytes of {len(written)} jobs: median {written[len(written) // 2]}, most {written[-1]}" if written else "no job was journaled")
            print("longest poll, s: " + ", ".join(f"Q{at + 1} {longest:.2f}" for at, longest in sorted(measured[-1][1].items())))
        finally:
            for cluster in clusters:
                cluster.stop()


if __name__ == "__main__":
    main()
