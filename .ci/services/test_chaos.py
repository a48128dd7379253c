"""Whatever is killed, frozen, cut off or damaged in the middle of a query: the rows are right, and nothing is left behind.

VOLLEY_CHAOS_TIMES says how often each fault is made (1), and VOLLEY_CHAOS_SCALE on which scale of the tpch catalog; VOLLEY_CHAOS_LOG
names a file to which each run adds a line: the fault, the query, whether it came right, and how long it took.
"""

import json
import os
import signal
import subprocess
import threading
import time

import pytest

from conftest import Cluster, wait_until
from network import NetworkCluster
from test_restart import JOURNALED_SECONDS, QUERIES, Session

TIMES = int(os.environ.get("VOLLEY_CHAOS_TIMES", "1"))
SCALE = os.environ.get("VOLLEY_CHAOS_SCALE", "sf0_2")
LOG = os.environ.get("VOLLEY_CHAOS_LOG")
NUMBERS = [9, 18, 21]


def text_of(number):
    return (QUERIES / f"q{number:02}.sql").read_text()


def session(cluster, name, settings=()):
    session = Session(cluster, name)
    for statement in [f"USE tpch.{SCALE}", "SET volley.fit = 'never'", "SET volley.min_bytes_per_partition = 65536", *settings]:
        session.run(statement)
    return session


class Query:
    """A query in the background, and what came of it."""

    def __init__(self, cluster, number, expected, settings=()):
        self.cluster, self.number, self.expected = cluster, number, expected
        self.started = time.monotonic()
        self.ticket, self.job = session(cluster, f"q{time.monotonic_ns()}", settings).accepted(text_of(number))
        self.result = None
        self.thread = threading.Thread(target=self.fetch)
        self.thread.start()

    def fetch(self):
        deadline = time.monotonic() + 90
        while self.result is None:
            try:
                self.result = Session(self.cluster, "reader").rows(self.ticket)
            except Exception as error:  # A scheduler that is started again: the ticket is good for it too.
                if "unavailable" not in type(error).__name__.lower() or time.monotonic() > deadline:
                    self.result = error
                else:
                    time.sleep(0.1)

    def stages_done(self):
        report = self.cluster.told("job", self.job)
        return sum(stage["tasks_done"] == stage["tasks"] for stage in report["stages"]) if report and report["stages"] else 0

    def wait_stage(self, wanted):
        """Waits until so many stages are complete, or the query is over."""
        wait_until("a stage", lambda: not self.thread.is_alive() or self.stages_done() >= wanted)

    def check(self, fault):
        self.thread.join(timeout=150)
        right = self.result == self.expected
        seconds = time.monotonic() - self.started
        if LOG:
            outcome = "hung" if self.thread.is_alive() else "right" if right else "failed" if isinstance(self.result, Exception) else "wrong"
            with open(LOG, "a") as log:
                log.write(json.dumps({"fault": fault, "query": self.number, "outcome": outcome, "seconds": round(seconds, 2)}) + "\n")
        assert not self.thread.is_alive(), f"{fault}: q{self.number} hangs"
        assert right, f"{fault}: q{self.number}: {self.result if isinstance(self.result, Exception) else 'other rows'}"
        return seconds


def answer(cluster, number, settings=()):
    """The rows without any fault, and how many stages there are."""
    ticket, job = session(cluster, "oracle", settings).accepted(text_of(number))
    rows = Session(cluster, "oracle").rows(ticket)
    assert rows
    return rows, len(cluster.told("job", job)["stages"])


def nothing_is_left(cluster, executors):
    """No task runs, nothing is held, no file is there."""
    # A result whose end was not written down yet when the scheduler was killed waits for its client until it expires.
    wait_until("idle executors", lambda: cluster.executors() == executors and cluster.busy_slots() == 0)
    held = lambda: sum(executor["store_bytes"] for executor in cluster.told("executors"))
    wait_until("empty stores", lambda: held() == 0)
    left = lambda: [path for path in cluster.folder.glob("work*/**/*") if path.is_file() and path.name not in ("lock", "executors.lock")]
    wait_until("empty work directories", lambda: left() == [])
    wait_until("no job at work", lambda: all(job["state"] in ("finished", "failed", "cancelled") for job in cluster.told("jobs")))


def started(cluster, executors=2, expiry="8s", **settings):
    cluster.expiry = ["--result-expiry", expiry]
    cluster.process = cluster.scheduler()
    cluster.nodes = {number: cluster.executor(number, **settings) for number in range(1, executors + 1)}
    wait_until("all executors", lambda: cluster.executors() == executors)
    return cluster


@pytest.fixture()
def cluster(tmp_path):
    cluster = started(Cluster(tmp_path))
    yield cluster
    cluster.stop()


@pytest.fixture()
def network(tmp_path):
    cluster = started(NetworkCluster(tmp_path))
    yield cluster
    cluster.stop()


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("number", NUMBERS)
def test_an_executor_is_killed_at_each_stage_boundary(cluster, number):
    expected, stages = answer(cluster, number)
    for turn in range(TIMES * stages):
        query = Query(cluster, number, expected)
        query.wait_stage(turn % stages)
        kill(cluster.nodes[1])
        cluster.nodes[1] = cluster.executor(1)
        query.check("executor killed, started again")
        wait_until("two executors", lambda: cluster.executors() == 2)
    nothing_is_left(cluster, 2)


@pytest.mark.parametrize("number", NUMBERS)
def test_the_scheduler_is_killed_at_each_stage_boundary(cluster, number):
    expected, stages = answer(cluster, number)
    for turn in range(TIMES * stages):
        query = Query(cluster, number, expected)
        time.sleep(JOURNALED_SECONDS)
        query.wait_stage(turn % stages)
        kill(cluster.process)
        cluster.process = cluster.scheduler()
        query.check("scheduler killed, started again")
        wait_until("two executors", lambda: cluster.executors() == 2)
    nothing_is_left(cluster, 2)


@pytest.mark.parametrize("number", NUMBERS)
def test_an_executor_is_frozen(cluster, number):
    expected, stages = answer(cluster, number)
    for turn in range(TIMES):
        query = Query(cluster, number, expected)
        query.wait_stage((1 + turn) % stages)
        cluster.nodes[2].send_signal(signal.SIGSTOP)
        seconds = query.check("executor frozen")
        assert seconds < 40, "its loss was noticed late"
        # It comes back, and what it says late does no harm.
        cluster.nodes[2].send_signal(signal.SIGCONT)
        wait_until("two executors", lambda: cluster.executors() == 2)
        Query(cluster, number, expected).check("after an executor was frozen")
    nothing_is_left(cluster, 2)


def test_an_executor_is_frozen_for_a_moment(cluster):
    expected, _ = answer(cluster, 9)
    for _ in range(TIMES):
        query = Query(cluster, 9, expected)
        query.wait_stage(1)
        cluster.nodes[2].send_signal(signal.SIGSTOP)
        time.sleep(3)
        cluster.nodes[2].send_signal(signal.SIGCONT)
        query.check("executor frozen for 3 s")
        report = cluster.told("job", query.job)
        assert sum(stage["reruns"] for stage in report["stages"]) == 0, "it was not lost, so nothing had to run again"
    nothing_is_left(cluster, 2)


def test_all_executors_are_restarted_one_after_the_other(cluster):
    """A rolling restart while TPC-H runs: each is told to leave, ends in order, and comes back; nothing fails."""
    answers = {number: answer(cluster, number)[0] for number in NUMBERS}
    cluster.nodes[3] = cluster.executor(3)
    wait_until("three executors", lambda: cluster.executors() == 3)
    stop, failures, ran = threading.Event(), [], []

    def load():
        while not stop.is_set():
            for number in NUMBERS:
                try:
                    Query(cluster, number, answers[number]).check("rolling restart")
                    ran.append(number)
                except AssertionError as error:
                    failures.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    for _ in range(TIMES):
        for number in (1, 2, 3):
            seen = len(ran)
            wait_until("a query", lambda: len(ran) > seen or failures)
            cluster.nodes[number].send_signal(signal.SIGTERM)
            assert cluster.nodes[number].wait(timeout=60) == 0, "it has to leave in order"
            cluster.nodes[number] = cluster.executor(number)
            wait_until("three executors", lambda: cluster.executors() == 3)
    stop.set()
    thread.join()
    assert not failures, failures
    reports = [cluster.told("job", job["job"]) for job in cluster.told("jobs")]
    again = sum(stage["reruns"] for report in reports for stage in report["stages"])
    print(f"{len(ran)} queries beside {3 * TIMES} restarts, {again} tasks run again")
    assert again == 0, "an executor that leaves in order takes nothing with it"
    nothing_is_left(cluster, 3)


@pytest.mark.parametrize("number", NUMBERS)
def test_two_executors_do_not_reach_each_other(network, number):
    expected, stages = answer(network, number)
    for turn in range(TIMES):
        network.network.cut("e1", "e2")
        query = Query(network, number, expected)
        query.wait_stage((1 + turn) % stages)
        time.sleep(2)
        network.network.mend("e1", "e2")
        query.check("link between two executors cut for a while")
    nothing_is_left(network, 2)


def test_an_executor_is_cut_off(network):
    for turn in range(TIMES):
        number = NUMBERS[turn % len(NUMBERS)]
        expected, stages = answer(network, number)
        query = Query(network, number, expected)
        query.wait_stage(1 + turn % (stages - 1))
        network.network.isolate("e2")
        seconds = query.check("executor cut off")
        assert seconds < 40, "its loss was noticed late"
        network.network.rejoin("e2")
        wait_until("two executors", lambda: network.executors() == 2)
        Query(network, number, expected).check("after an executor was cut off")
    nothing_is_left(network, 2)


def test_a_slow_link(network):
    expected, _ = answer(network, 9)
    network.network.slow("e2", "40mbit")
    for _ in range(TIMES):
        Query(network, 9, expected).check("link of 40 Mbit/s")
    nothing_is_left(network, 2)


def damage(query):
    """Changes bytes in the middle of the first spilled output that is there while the query runs; whether there was one."""
    while query.thread.is_alive():
        for path in query.cluster.folder.glob("work*/**/*.spill"):
            try:
                size = path.stat().st_size
                if size > 100_000:
                    with open(path, "r+b") as file:
                        for place in range(1000, size - 1000, 10_000):
                            file.seek(place)
                            file.write(b"\xa5" * 64)
                    return True
            except FileNotFoundError:
                pass
    return False


def test_a_spilled_output_is_damaged(tmp_path):
    """Bytes of a spilled file are changed before they are read: the checksum tells, and the task runs again."""
    # Little memory, so that outputs go to disk.
    cluster = started(Cluster(tmp_path), memory="40MiB")
    try:
        expected, _ = answer(cluster, 18)
        damaged, noticed = 0, 0
        for _ in range(4 * TIMES):
            query = Query(cluster, 18, expected)
            damaged += damage(query)
            query.check("spilled output damaged")
            noticed += any(stage["reruns"] > 0 for stage in cluster.told("job", query.job)["stages"])
        print(f"{damaged} files were damaged, tasks ran again in {noticed} queries")
        assert damaged > 0, "nothing was spilled"
        nothing_is_left(cluster, 2)
    finally:
        cluster.stop()


def test_the_disk_of_one_of_two_executors_is_full(tmp_path):
    place = tmp_path / "work1"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512m", "tmpfs", place], check=True)
    cluster = Cluster(tmp_path)
    try:
        started(cluster, memory="40MiB")
        expected, _ = answer(cluster, 18)
        (place / "ballast").write_bytes(b"\0" * (511 << 20))
        for _ in range(TIMES):
            Query(cluster, 18, expected).check("disk of one executor full")
    finally:
        cluster.stop()
        subprocess.run(["umount", "-l", place], check=True)
