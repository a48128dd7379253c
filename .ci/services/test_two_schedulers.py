"""Two schedulers over one etcd: one leads, one stands by, and what ran goes on when the leader is killed, frozen or told to leave."""

import signal
import socket
import subprocess
import time

import pyarrow
import pyarrow.flight as flight
import pytest

from conftest import VOLLEY, Cluster, free_port, wait_until
from etcd import Etcd
from test_restart import JOURNALED_SECONDS, QUERIES, SCALE, Session

LEADER_TIMEOUT = 3


class Pair(Cluster):
    """Two schedulers, and executors that know both."""

    def __init__(self, folder, etcd=None, leader_timeout=LEADER_TIMEOUT):
        super().__init__(folder, warehouse=str(folder / "warehouse"))
        self.etcd, self.leader_timeout = etcd or Etcd(folder), leader_timeout
        self.places = [(self.address, self.http), (f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}")]
        self.schedulers = [self.scheduler_at(0), None]
        wait_until("a leader", lambda: self.healthy(0))
        self.schedulers[1] = self.scheduler_at(1)
        wait_until("a standby", lambda: self.probe(1) is not None)
        for number in (1, 2):
            self.executor(number)
        wait_until("two executors", lambda: self.executors() == 2)

    def scheduler_at(self, number):
        (listen, http) = self.places[number]
        return self.start(
            f"scheduler{number}", "scheduler", "--listen", listen, "--http", http, "--state", f"etcd://{self.etcd.location}/test",
            "--leader-timeout", f"{self.leader_timeout}s", "--warehouse", self.warehouse,
        )

    @property
    def both(self):
        return ",".join(f"http://{listen}" for listen, _ in self.places)

    def executor(self, number, slots=1, memory="2GiB", fail_point=None):
        return self.start(
            f"executor{number}", "executor", "--scheduler", self.both, "--listen", f"127.0.0.1:{self.ports.setdefault(number, free_port())}",
            "--slots", str(slots), "--memory", memory, "--work-dir", self.folder / f"work{number}", fail_point=fail_point,
        )

    def probe(self, number):
        self.http = self.places[number][1]
        return self.get("/readyz")

    def healthy(self, number):
        return self.probe(number) is not None and self.listens(number)

    def listens(self, number):
        host, port = self.places[number][0].split(":")
        with socket.socket() as probe:
            return probe.connect_ex((host, int(port))) == 0

    def leader(self):
        """The number of the scheduler that leads. Who stands by does not listen."""
        leading = [number for number in (0, 1) if self.schedulers[number].poll() is None and self.probe(number) == 200]
        return leading[0] if leading else None

    def new_leader(self, old):
        wait_until("another leader", lambda: self.leader() not in (None, old))
        number = self.leader()
        self.address = self.places[number][0]
        return number

    def stop(self):
        super().stop()
        self.etcd.stop()


@pytest.fixture()
def pair(tmp_path):
    pair = Pair(tmp_path)
    yield pair
    pair.stop()


def session(pair, name):
    session = Session(pair, name)
    for statement in [f"USE tpch.{SCALE}", "SET volley.fit = 'never'", "SET volley.min_bytes_per_partition = 65536"]:
        session.run(statement)
    return session


def test_who_stands_by_says_so(pair):
    assert pair.leader() == 0
    assert pair.probe(1) == 503 and not pair.listens(1)
    said = (pair.folder / "scheduler1.log").read_text()
    assert f"scheduler: standing by, the scheduler on {pair.places[0][0]} (process " in said


def test_running_jobs_tickets_handles_and_options_move_to_the_other(pair):
    text = (QUERIES / "q09.sql").read_text()
    before = session(pair, "one")
    expected = before.run(text)
    before.run("CREATE TABLE volley.public.kept AS SELECT n_nationkey AS k FROM tpch.sf0_01.nation")
    before.run("CREATE TEMPORARY TABLE volley.public.gone AS SELECT 1 AS k")
    handle = before.prepared("SELECT n_name FROM nation WHERE n_nationkey = 7")
    ticket, job = before.accepted(text)
    time.sleep(JOURNALED_SECONDS)
    pair.schedulers[0].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    assert pair.new_leader(0) == 1
    took = time.monotonic() - killed
    after = Session(pair, "one")
    assert after.rows(ticket) == expected
    assert pair.told("job", job)["state"] == "finished"
    # Its options and its handle: the same session and schema.
    assert after.run("SHOW volley.fit") == [("volley.fit", "never")]
    assert after.execute(handle) == [("GERMANY",)]
    assert after.run("SELECT count(*) FROM volley.public.kept") == [(25,)]
    with pytest.raises(pyarrow.lib.ArrowInvalid, match="temporary table 'gone' was lost with the scheduler that it was made on"):
        after.run("SELECT * FROM volley.public.gone")
    print(f"another scheduler led {took:.1f} s after the leader was killed")
    assert took < LEADER_TIMEOUT + 3


def test_the_shell_does_not_notice(pair):
    text = (QUERIES / "q21.sql").read_text()
    arguments = [VOLLEY, "sql", "--cluster", pair.both, "--format", "csv", "-c", "SET volley.fit = 'never'", "-c", "USE tpch.sf1", "-c", text]
    expected = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert expected.returncode == 0 and expected.stdout, expected.stderr
    before = len(pair.told("jobs"))
    running = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until("a running job", lambda: len(pair.told("jobs")) > before and pair.busy_slots() > 0)
    time.sleep(JOURNALED_SECONDS)
    assert running.poll() is None, "it was over before the scheduler was killed"
    pair.schedulers[0].send_signal(signal.SIGKILL)
    out, error = running.communicate(timeout=120)
    assert running.returncode == 0, error
    assert out == expected.stdout


def test_a_frozen_leader_is_deposed_and_can_do_nothing(pair):
    text = (QUERIES / "q18.sql").read_text()
    before = session(pair, "one")
    expected = before.run(text)
    ticket, _ = before.accepted(text)
    time.sleep(JOURNALED_SECONDS)
    old = pair.schedulers[0]
    old.send_signal(signal.SIGSTOP)
    assert pair.new_leader(0) == 1
    assert Session(pair, "two").rows(ticket) == expected
    Session(pair, "two").run("CREATE TABLE volley.public.after AS SELECT 1 AS k")
    old.send_signal(signal.SIGCONT)
    # It learns that it lost the lead, and ends; what it knew does no harm.
    assert old.wait(timeout=30) == 1
    assert "does not lead any more" in (pair.folder / "scheduler0.log").read_text()
    wait_until("two executors", lambda: pair.executors() == 2)
    assert session(pair, "three").run(text) == expected
    assert Session(pair, "three").run("SELECT * FROM volley.public.after") == [(1,)]


def test_a_leader_that_is_told_to_leave_hands_over_at_once(pair):
    text = (QUERIES / "q09.sql").read_text()
    before = session(pair, "one")
    expected = before.run(text)
    ticket, _ = before.accepted(text)
    time.sleep(JOURNALED_SECONDS)
    pair.schedulers[0].send_signal(signal.SIGTERM)
    assert pair.schedulers[0].wait(timeout=30) == 0
    left = time.monotonic()
    assert pair.new_leader(0) == 1
    took = time.monotonic() - left
    assert Session(pair, "two").rows(ticket) == expected
    # There and back again: who left stands by when it is started again.
    pair.schedulers[0] = pair.scheduler_at(0)
    wait_until("a standby", lambda: pair.probe(0) == 503)
    ticket, _ = session(pair, "two").accepted(text)
    time.sleep(JOURNALED_SECONDS)
    pair.schedulers[1].send_signal(signal.SIGTERM)
    assert pair.new_leader(1) == 0
    assert Session(pair, "two").rows(ticket) == expected
    print(f"another scheduler led {took:.1f} s after the leader had left")
    assert took < LEADER_TIMEOUT


def test_etcd_is_away_for_a_moment(pair):
    before = session(pair, "one")
    pair.etcd.signal(signal.SIGSTOP)
    time.sleep(1)
    pair.etcd.signal(signal.SIGCONT)
    assert before.run("SELECT count(*) FROM nation") == [(25,)]
    before.run("CREATE TABLE volley.public.kept AS SELECT 1 AS k")
    assert pair.leader() == 0


def test_etcd_is_away_for_long(pair):
    """The leader gives up, since it can't know whether another one leads; both go on when etcd is there again."""
    before = session(pair, "one")
    before.run("CREATE TABLE volley.public.kept AS SELECT 1 AS k")
    pair.etcd.signal(signal.SIGSTOP)
    assert pair.schedulers[0].wait(timeout=30) == 1
    pair.etcd.signal(signal.SIGCONT)
    assert pair.new_leader(0) == 1
    wait_until("two executors", lambda: pair.executors() == 2)
    assert Session(pair, "one").run("SELECT * FROM volley.public.kept") == [(1,)]
