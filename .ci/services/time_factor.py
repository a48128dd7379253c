"""How much longer a query takes when one of k executors is killed at half time: a table, by hand.

    VOLLEY_BIN=target/release/volley python time_factor.py DATA [QUERY ...]

DATA is a folder with TPC-H as Parquet files. Each executor has the same share of the processors and no more (cgroups, which needs the
privilege to make them), so that survivors do not inherit what the dead one had. Aims: started again at once 1 + 1/(2k) and 2 s; its
capacity lost 2.0 (k = 2), 1.5 (k = 3) and 2 s.
"""

import os
import pathlib
import signal
import sys
import tempfile
import time

from conftest import Cluster, wait_until
from test_restart import QUERIES, Session

PERIOD = 100_000
V1 = pathlib.Path("/sys/fs/cgroup/cpu")
V2 = pathlib.Path("/sys/fs/cgroup")
TABLES = ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"]


def limited(name, share):
    """A control group with a share of one processor; the file that a process joins it by."""
    if (V1 / "cpu.cfs_quota_us").exists():
        group = V1 / name
        group.mkdir(exist_ok=True)
        (group / "cpu.cfs_period_us").write_text(str(PERIOD))
        (group / "cpu.cfs_quota_us").write_text(str(int(PERIOD * share)))
    else:
        group = V2 / name
        group.mkdir(exist_ok=True)
        (group / "cpu.max").write_text(f"{int(PERIOD * share)} {PERIOD}")
    return group / "cgroup.procs"


class Limited(Cluster):
    """Each executor in a control group of its own, of which it is a member before it starts."""

    def __init__(self, folder, executors, share):
        super().__init__(folder)
        self.groups = {number: limited(f"volley-factor{number}", share) for number in range(1, executors + 1)}
        self.process = self.scheduler()
        self.nodes = {number: self.limited_executor(number) for number in self.groups}
        self.wait_executors(executors)

    def wait_executors(self, number):
        wait_until("all executors", lambda: self.executors() == number)

    def limited_executor(self, number):
        process = self.executor(number, memory="4GiB")
        self.groups[number].write_text(str(process.pid))
        return process

    def stop(self):
        super().stop()
        for group in self.groups.values():
            group.parent.rmdir()


def run(cluster, text, disturb=None):
    """Seconds and rows."""
    session = Session(cluster, f"s{time.monotonic_ns()}", timeout=600)
    session.run("SET volley.fit = 'never'")
    started = time.monotonic()
    ticket, _ = session.accepted(text)
    if disturb:
        disturb(started)
    rows = session.rows(ticket)
    return time.monotonic() - started, rows


def kill_at(cluster, seconds, restart):
    def disturb(started):
        time.sleep(max(0.0, started + seconds - time.monotonic()))
        cluster.nodes[1].send_signal(signal.SIGKILL)
        cluster.nodes[1].wait()
        if restart:
            cluster.nodes[1] = cluster.limited_executor(1)
    return disturb


def main():
    data = pathlib.Path(sys.argv[1]).resolve()
    numbers = [int(number) for number in sys.argv[2:]] or [9, 18, 21]
    print("| k | query | undisturbed s | started again s | factor | aim | capacity lost s | factor | aim |")
    print("|---|---|---|---|---|---|---|---|---|")
    for k in (2, 3):
        with tempfile.TemporaryDirectory() as folder:
            cluster = Limited(pathlib.Path(folder), k, 0.85 * (os.cpu_count() or 1) / k)
            try:
                for table in TABLES:
                    cluster.sql(f"CREATE EXTERNAL TABLE {table} STORED AS PARQUET LOCATION '{data}/{table}.parquet'")
                for number in numbers:
                    text = (QUERIES / f"q{number:02}.sql").read_text()
                    _, expected = run(cluster, text)
                    whole, rows = run(cluster, text)
                    assert rows == expected
                    again, rows = run(cluster, text, kill_at(cluster, whole / 2, True))
                    assert rows == expected
                    cluster.wait_executors(k)
                    lost, rows = run(cluster, text, kill_at(cluster, whole / 2, False))
                    assert rows == expected
                    cluster.nodes[1] = cluster.limited_executor(1)
                    cluster.wait_executors(k)
                    aims = (1 + 1 / (2 * k) + 2 / whole, (2.0 if k == 2 else 1.5) + 2 / whole)
                    print(f"| {k} | {number} | {whole:.1f} | {again:.1f} | {again / whole:.2f} | {aims[0]:.2f} | {lost:.1f} | {lost / whole:.2f} | {aims[1]:.2f} |", flush=True)
            finally:
                cluster.stop()


if __name__ == "__main__":
    main()
