"""A real cluster: one scheduler and two executor processes of one slot each, on loopback."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.request

import pytest

VOLLEY = pathlib.Path(os.environ["VOLLEY_BIN"]).resolve()
START_SECONDS = 30
# Lines that suites want to be read at the end.
SUMMARY = []


def pytest_terminal_summary(terminalreporter):
    for line in SUMMARY:
        terminalreporter.write_line(line)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(what, is_so):
    """Waits for a state, with a bound."""
    deadline = time.monotonic() + START_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {START_SECONDS} s")
        time.sleep(0.05)


def volley_sql(cluster, *statements):
    """`volley sql` on a cluster, to its end."""
    commands = [part for statement in statements for part in ("-c", statement)]
    arguments = [VOLLEY, "sql", "--cluster", f"http://{cluster.address}", "--format", "csv", *commands]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=120)


def end(processes):
    """Tells processes to end, the last one first, and waits until they have."""
    for process in reversed(processes):
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Cluster:
    """Processes of one cluster, and where they answer."""

    def __init__(self, folder, environment=None, warehouse=None):
        self.folder = folder
        self.environment = {**os.environ, **(environment or {})}
        self.warehouse = warehouse
        self.address = f"127.0.0.1:{free_port()}"
        self.http = f"127.0.0.1:{free_port()}"
        self.processes = []
        self.ports = {}
        self.expiry = []

    def start(self, name, *arguments, fail_point=None, within=()):
        log = open(self.folder / f"{name}.log", "ab")
        environment = {**self.environment, **({"VOLLEY_FAIL_POINT": fail_point} if fail_point else {})}
        process = subprocess.Popen([*within, VOLLEY, *arguments], stdout=log, stderr=log, env=environment)
        self.processes.append(process)
        return process

    def scheduler(self, fail_point=None):
        state = self.folder / "state"
        warehouse = ["--warehouse", self.warehouse] if self.warehouse else []
        place = ["--listen", self.address, "--http", self.http, "--state-dir", state]
        return self.start("scheduler", "scheduler", *place, *warehouse, *self.expiry, fail_point=fail_point)

    def executor(self, number, slots=1, memory="2GiB", fail_point=None):
        # One that is started again has its address again.
        listen = f"127.0.0.1:{self.ports.setdefault(number, free_port())}"
        work = self.folder / f"work{number}"
        return self.start(
            f"executor{number}", "executor", "--scheduler", f"http://{self.address}", "--listen", listen,
            "--slots", str(slots), "--memory", memory, "--work-dir", work, fail_point=fail_point,
        )

    def sql(self, *statements):
        """What `volley sql` prints; an error is an assertion that fails."""
        ended = volley_sql(self, *statements)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://{self.http}{path}", timeout=5) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    def told(self, *command):
        """What a command of `volley` says in JSON; `None` where it fails."""
        told = subprocess.run([VOLLEY, *command, "--cluster", f"http://{self.address}", "--format", "json"], capture_output=True, text=True)
        return json.loads(told.stdout) if told.returncode == 0 else None

    def executors(self):
        return sum(executor["state"] == "live" for executor in self.told("executors") or [])

    def busy_slots(self):
        return sum(executor["busy_slots"] for executor in self.told("executors"))

    def jobs(self):
        return [self.told("job", job["job"]) for job in self.told("jobs")]

    def stop(self):
        end(self.processes)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    cluster.scheduler()
    cluster.executor(1)
    cluster.executor(2)
    wait_until("a ready scheduler", lambda: cluster.get("/readyz") == 200)
    wait_until("two executors", lambda: cluster.executors() == 2)
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def tpch(tmp_path_factory):
    """TPC-H at scale 0.01 as Parquet files, one a table, written by the embedded cluster."""
    folder = tmp_path_factory.mktemp("tpch")
    tables = ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"]
    for table in tables:
        copy = f"COPY (SELECT * FROM tpch.sf0_01.{table}) TO '{folder}/{table}.parquet' STORED AS PARQUET"
        subprocess.run([VOLLEY, "sql", "-c", copy], check=True, capture_output=True)
    return folder
