"""State in an etcd of three members, which loses the one that leads, and in one that wants a password."""

import subprocess
import time

import pytest

from conftest import VOLLEY, wait_until
from etcd import Etcd
from test_chaos import kill
from test_restart import JOURNALED_SECONDS, QUERIES, Session
from test_two_schedulers import Pair, session


@pytest.fixture()
def pair(tmp_path):
    # An election takes up to two seconds, and more on a busy machine.
    pair = Pair(tmp_path, Etcd(tmp_path, members=3), leader_timeout=10)
    yield pair
    pair.stop()


@pytest.mark.parametrize("number", [9, 21])
def test_the_leader_of_etcd_is_killed_in_the_middle_of_a_query(pair, number):
    text = (QUERIES / f"q{number:02}.sql").read_text()
    expected = session(pair, "one").run(text)
    for turn in range(2):
        ticket, job = session(pair, "one").accepted(text)
        time.sleep(JOURNALED_SECONDS)
        wait_until("a leader of etcd", lambda: pair.etcd.leader())
        member = pair.etcd.leader()
        kill(member.process)
        assert Session(pair, "two").rows(ticket) == expected
        assert pair.told("job", job)["state"] == "finished"
        # Two members of three are enough to write.
        Session(pair, "two").run(f"CREATE TABLE volley.public.t{turn} AS SELECT {turn} AS k")
        pair.etcd.restart(member)
        assert pair.leader() == 0, "the scheduler had time enough to find another member"
    assert Session(pair, "three").run("SELECT a.k, b.k AS l FROM volley.public.t0 a, volley.public.t1 b") == [(0, 1)]


def test_etcd_wants_a_password(tmp_path):
    etcd = Etcd(tmp_path)
    etcd.protect("a p@ss/word")
    right, etcd.user = etcd.user, "root:a%20p%40ss%2Fword"
    pair = Pair(tmp_path, etcd)
    try:
        Session(pair, "one").run("CREATE TABLE volley.public.kept AS SELECT 1 AS k")
        pair.schedulers[0].terminate()
        assert pair.new_leader(0) == 1
        assert Session(pair, "two").run("SELECT * FROM volley.public.kept") == [(1,)]
        for user, wanted in (("root:guess@", "authentication failed"), ("", "user name")):
            place = f"etcd://{user}{etcd.members[0].address}/test"
            command = [VOLLEY, "scheduler", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--state", place, "--warehouse", tmp_path / "w"]
            refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert refused.returncode != 0, refused
            assert wanted in refused.stderr.lower() and "guess" not in refused.stderr, refused.stderr
    finally:
        etcd.user = right
        pair.stop()
