"""kill -9 of the scheduler in the middle of a query, and a start with the same state: the client's ticket gives all rows, once.

VOLLEY_KILL_SCALE names a scale of the tpch catalog and VOLLEY_KILL_TIMES how often to kill, for longer runs by hand.
"""

import contextlib
import os
import pathlib
import signal
import subprocess
import threading
import time

import pyarrow
import pyarrow.flight as flight
import pytest

from conftest import VOLLEY, Cluster, wait_until
from proxy import Proxy

QUERIES = pathlib.Path(__file__).resolve().parents[2] / "benchmarks" / "queries" / "tpch"
SCALE = os.environ.get("VOLLEY_KILL_SCALE", "sf0_1")
TIMES = int(os.environ.get("VOLLEY_KILL_TIMES", "4"))
# How long events are gathered before they are in the journal, and some.
JOURNALED_SECONDS = 0.25


def field(number, value):
    """A field of bytes as protobuf writes it."""
    length, size = b"", len(value)
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + value


def first_field(message, wanted):
    """The first field of bytes of this number, in a message that begins with such fields."""
    at = 0
    while at < len(message):
        number, shift, size, at = message[at] >> 3, 0, 0, at + 1
        while True:
            byte, at = message[at], at + 1
            size, shift = size | (byte & 127) << shift, shift + 7
            if byte < 128:
                break
        if number == wanted:
            return message[at:at + size]
        at += size
    raise KeyError(wanted)


def message(name, value):
    """A message of Flight SQL whose first field is `value`."""
    return field(1, f"type.googleapis.com/arrow.flight.protocol.sql.{name}".encode()) + field(2, field(1, value))


class Session:
    """A Flight SQL client that does no more than the protocol asks."""

    def __init__(self, cluster, name, timeout=120, address=None):
        self.client = flight.connect(f"grpc://{address or cluster.address}")
        self.options = flight.FlightCallOptions(headers=[(b"cookie", f"volley_session={name}".encode())], timeout=timeout)

    def accepted(self, sql):
        """What the scheduler answers to a statement: the ticket of its result, and the job."""
        return self.info(message("CommandStatementQuery", sql.encode()))

    def info(self, command):
        info = self.client.get_flight_info(flight.FlightDescriptor.for_command(command), self.options)
        return info.endpoints[0].ticket, info.app_metadata.decode()

    def prepared(self, sql):
        """The handle of a prepared statement."""
        action = flight.Action("CreatePreparedStatement", message("ActionCreatePreparedStatementRequest", sql.encode()))
        (answer,) = self.client.do_action(action, self.options)
        return first_field(first_field(answer.body.to_pybytes(), 2), 1)

    def execute(self, handle):
        return self.rows(self.info(message("CommandPreparedStatementQuery", handle))[0])

    def rows(self, ticket):
        """Numbers to nine digits: the order in which partial sums meet is not fixed."""
        def cell(value):
            return f"{value:.9g}" if isinstance(value, float) else value
        table = self.client.do_get(ticket, self.options).read_all()
        return [tuple(map(cell, row.values())) for row in table.to_pylist()]

    def run(self, sql):
        return self.rows(self.accepted(sql)[0])


def session(cluster, name):
    session = Session(cluster, name)
    for statement in [f"USE tpch.{SCALE}", "SET volley.fit = 'never'", "SET volley.min_bytes_per_partition = 65536"]:
        session.run(statement)
    return session


@pytest.fixture()
def cluster(tmp_path):
    cluster = Cluster(tmp_path)
    cluster.process = cluster.scheduler()
    cluster.executor(1)
    cluster.executor(2)
    wait_until("two executors", lambda: cluster.executors() == 2)
    yield cluster
    cluster.stop()


def restart(cluster):
    cluster.process.send_signal(signal.SIGKILL)
    cluster.process.wait()
    cluster.process = cluster.scheduler()
    wait_until("a scheduler", lambda: cluster.get("/healthz") == 200)


@pytest.mark.parametrize("number", [9, 18, 21])
def test_a_query_goes_on(cluster, number):
    text = (QUERIES / f"q{number:02}.sql").read_text()
    before = session(cluster, "before")
    expected = before.run(text)
    started = time.monotonic()
    assert before.run(text) == expected and expected
    duration = time.monotonic() - started
    went_on = 0
    for turn in range(TIMES):
        ticket, job = session(cluster, f"turn{turn}").accepted(text)
        # Moments spread over the query: this is the disturbance, not a wait for a state.
        time.sleep(JOURNALED_SECONDS + duration * (turn + 0.5) / TIMES)
        sealed = [stage for stage in cluster.told("job", job)["stages"] if stage["tasks_done"] == stage["tasks"]]
        restart(cluster)
        assert Session(cluster, "after").rows(ticket) == expected
        report = cluster.told("job", job)
        assert report["state"] == "finished"
        again = [stage["stage"] for stage in report["stages"] if stage["reruns"] > 0]
        assert not again, f"complete stages were run again: {again}"
        went_on += bool(sealed)
        wait_until("two executors", lambda: cluster.executors() == 2)
    print(f"q{number}: {TIMES} restarts, in {went_on} of them stages were complete")


def test_an_executor_is_lost_with_the_scheduler(cluster):
    text = (QUERIES / "q09.sql").read_text()
    before = session(cluster, "before")
    expected = before.run(text)
    ticket, _ = before.accepted(text)
    time.sleep(JOURNALED_SECONDS)
    cluster.processes[-1].send_signal(signal.SIGKILL)
    restart(cluster)
    assert Session(cluster, "after").rows(ticket) == expected


def test_a_result_that_waits_is_there_after_two_restarts(cluster):
    before = session(cluster, "before")
    ticket, job = before.accepted("SELECT n_name, n_nationkey FROM nation ORDER BY n_nationkey")
    wait_until("all rows", lambda: cluster.told("job", job)["state"] in ("sealed", "running") and cluster.busy_slots() == 0)
    time.sleep(JOURNALED_SECONDS)
    restart(cluster)
    restart(cluster)
    rows = Session(cluster, "after").rows(ticket)
    assert len(rows) == 25 and rows[0] == ("ALGERIA", 0)
    wait_until("it counts as read", lambda: sum(executor["store_bytes"] for executor in cluster.told("executors")) == 0)
    with pytest.raises(pyarrow.lib.ArrowKeyError, match="was read already"):
        Session(cluster, "after").rows(ticket)


def receive(session, ticket, received):
    with contextlib.suppress(pyarrow.lib.ArrowException):
        received.append(session.rows(ticket))


def test_rows_that_were_sent_and_not_received(cluster):
    """They wait between scheduler and client when the scheduler dies: the client asks again."""
    text = (QUERIES / "q09.sql").read_text()
    expected = session(cluster, "before").run(text)
    proxy = Proxy(("127.0.0.1", int(cluster.address.rsplit(":", 1)[1])))
    try:
        stalled = Session(cluster, "before", address=proxy.address)
        ticket, job = stalled.accepted(text)
        received = []
        proxy.hold_answers()
        reader = threading.Thread(target=receive, args=(stalled, ticket, received), daemon=True)
        reader.start()
        wait_until("all rows are sent", lambda: cluster.told("job", job)["state"] == "finished")
        time.sleep(JOURNALED_SECONDS)
        restart(cluster)
    finally:
        proxy.close()
    assert not received, "they came through"
    assert Session(cluster, "after").rows(ticket) == expected


def test_the_shell_waits_for_its_scheduler(cluster):
    text = (QUERIES / "q21.sql").read_text()
    arguments = [VOLLEY, "sql", "--cluster", f"http://{cluster.address}", "--format", "csv", "-c", "SET volley.fit = 'never'", "-c", "USE tpch.sf1", "-c", text]
    expected = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert expected.returncode == 0 and expected.stdout, expected.stderr
    before = len(cluster.told("jobs"))
    running = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until("a running job", lambda: len(cluster.told("jobs")) > before and cluster.busy_slots() > 0)
    time.sleep(JOURNALED_SECONDS)
    assert running.poll() is None, "it was over before the scheduler was killed"
    restart(cluster)
    out, error = running.communicate(timeout=120)
    assert running.returncode == 0, error
    assert out == expected.stdout
