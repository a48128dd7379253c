"""kill -9 of one of two executors in the middle of a query: the answer stays right, and only what was lost runs again.

VOLLEY_KILL_DATA names a folder with TPC-H as Parquet files and VOLLEY_KILL_TIMES how often to kill, for longer runs by hand.
"""

import json
import os
import pathlib
import signal
import subprocess
import time

import pytest

from conftest import VOLLEY, Cluster, wait_until

QUERIES = pathlib.Path(__file__).resolve().parents[2] / "benchmarks" / "queries" / "tpch"
TIMES = int(os.environ.get("VOLLEY_KILL_TIMES", "6"))


def volley(*arguments):
    return subprocess.run([VOLLEY, *arguments], capture_output=True, text=True, timeout=120)


def query(cluster, number):
    text = (QUERIES / f"q{number:02}.sql").read_text()
    return [
        "sql", "--cluster", f"http://{cluster.address}", "--format", "csv",
        "-c", "SET volley.fit = 'never'", "-c", "SET volley.min_bytes_per_partition = 1", "-c", text,
    ]


def rows(text):
    """Numbers to nine digits: the order in which partial sums meet is not fixed."""
    def cell(value):
        try:
            return f"{float(value):.9g}"
        except ValueError:
            return value
    return [[cell(value) for value in line.split(",")] for line in text.splitlines()]


def last_job(cluster):
    listed = volley("jobs", "--cluster", f"http://{cluster.address}", "--format", "json")
    return max((job["job"] for job in json.loads(listed.stdout)), key=lambda job: int(job[1:]))


@pytest.fixture()
def killed(tmp_path, tpch):
    cluster = Cluster(tmp_path)
    cluster.scheduler()
    cluster.executor(1)
    wait_until("a ready scheduler", lambda: cluster.get("/readyz") == 200)
    data = pathlib.Path(os.environ.get("VOLLEY_KILL_DATA", tpch))
    for file in sorted(data.glob("*.parquet")):
        ddl = f"CREATE EXTERNAL TABLE {file.stem} STORED AS PARQUET LOCATION '{file}'"
        assert volley("sql", "--cluster", f"http://{cluster.address}", "-c", ddl).returncode == 0
    yield cluster
    cluster.stop()


@pytest.mark.parametrize("number", [9, 21])
def test_kill_an_executor(killed, number):
    wait_until("one executor", lambda: killed.executors() == 1)
    arguments = query(killed, number)
    assert volley(*arguments).returncode == 0
    started = time.monotonic()
    expected = volley(*arguments)
    duration = time.monotonic() - started
    assert expected.returncode == 0 and expected.stdout
    reruns = 0
    for turn in range(TIMES):
        victim = killed.executor(2 + turn)
        wait_until("two executors", lambda: killed.executors() == 2)
        running = subprocess.Popen([VOLLEY, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        # Moments spread over the query: this is the disturbance, not a wait for a state.
        time.sleep(duration * (turn + 0.5) / TIMES)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        out, error = running.communicate(timeout=120)
        assert running.returncode == 0, error
        assert rows(out) == rows(expected.stdout)
        report = volley("job", last_job(killed), "--cluster", f"http://{killed.address}", "--format", "json")
        stages = json.loads(report.stdout).get("stages", []) if report.returncode == 0 else []
        reruns += any(stage.get("reruns", 0) > 0 for stage in stages)
        wait_until("one executor", lambda: killed.executors() == 1)
    print(f"q{number}: {TIMES} kills, sealed producers re-run in {reruns}")
