"""Connections that are reset, and peers and clients that stop reading, in the middle of a query."""

import time

import pytest

from conftest import Cluster, free_port, wait_until
from proxy import Proxy
from test_chaos import NUMBERS, Query, answer, nothing_is_left, session, started
from test_restart import Session


class Proxied(Cluster):
    """Whoever reads outputs of executor 2 does so through a proxy. The executor itself reaches everybody."""

    proxy = None

    def executor(self, number, slots=1, memory="2GiB", fail_point=None):
        if number != 2:
            return super().executor(number, slots, memory, fail_point)
        port = self.ports.setdefault(number, free_port())
        self.proxy = self.proxy or Proxy(("127.0.0.1", port))
        return self.start(
            "executor2", "executor", "--scheduler", f"http://{self.address}", "--listen", f"127.0.0.1:{port}",
            "--advertise", self.proxy.address, "--slots", str(slots), "--memory", memory, "--work-dir", self.folder / "work2",
        )

    def stop(self):
        super().stop()
        self.proxy.close()


@pytest.fixture()
def proxied(tmp_path):
    cluster = started(Proxied(tmp_path))
    yield cluster
    cluster.stop()


@pytest.mark.parametrize("number", NUMBERS)
def test_connections_are_reset(proxied, number):
    expected, stages = answer(proxied, number)
    for stage in range(stages):
        query = Query(proxied, number, expected)
        query.wait_stage(stage)
        proxied.proxy.reset()
        query.check("connections of an executor reset")
    nothing_is_left(proxied, 2)


def test_connections_are_reset_again_and_again(proxied):
    expected, _ = answer(proxied, 9)
    query, resets = Query(proxied, 9, expected), 0
    deadline = time.monotonic() + 3
    while query.thread.is_alive() and time.monotonic() < deadline:
        resets += proxied.proxy.reset()
        time.sleep(0.05)
    query.check("connections of an executor reset every 50 ms for 3 s")
    assert resets > 0, "nothing was reset"
    nothing_is_left(proxied, 2)


def test_a_peer_stops_reading_for_a_while(proxied):
    expected, _ = answer(proxied, 18)
    query = Query(proxied, 18, expected)
    query.wait_stage(1)
    proxied.proxy.stall()
    time.sleep(4)
    proxied.proxy.resume()
    query.check("peer stops reading for 4 s")
    nothing_is_left(proxied, 2)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_peer_stops_reading_for_good(proxied, number):
    """The executor lives and says so, but nobody can read from it: what it made is made again where it can be read."""
    expected, _ = answer(proxied, number)
    query = Query(proxied, number, expected)
    query.wait_stage(1)
    proxied.proxy.stall()
    seconds = query.check("peer stops reading for good")
    assert seconds < 60, "that was noticed late"
    proxied.proxy.resume()
    nothing_is_left(proxied, 2)


def test_a_client_stops_reading(tmp_path):
    """Its rows wait, within bounds; others go on; it gets them all, or they go with it."""
    cluster = started(Cluster(tmp_path))
    try:
        rows = "SELECT l_orderkey, l_partkey, l_comment FROM lineitem"
        expected = session(cluster, "oracle").run("SELECT count(*), sum(l_orderkey) FROM lineitem")
        used = lambda: sum(executor["store_bytes"] for executor in cluster.told("executors"))
        stalled = session(cluster, "stalled")
        reader = stalled.client.do_get(stalled.accepted(rows)[0], stalled.options)
        batches = [reader.read_chunk().data]
        q9, _ = answer(cluster, 9)
        Query(cluster, 9, q9).check("a client stops reading")
        held = used()
        assert held < 1 << 30, held
        while True:
            try:
                batches.append(reader.read_chunk().data)
            except StopIteration:
                break
        keys = [sum(batch.column(0).to_pylist()) for batch in batches]
        assert [(sum(batch.num_rows for batch in batches), sum(keys))] == expected
        # One that goes without a word, in the middle.
        gone = session(cluster, "gone")
        reader = gone.client.do_get(gone.accepted(rows)[0], gone.options)
        reader.read_chunk()
        reader.cancel()
        gone.client.close()
        wait_until("what nobody reads is freed", lambda: used() == 0)
        nothing_is_left(cluster, 2)
        assert Session(cluster, "after").run("SELECT 1 AS one") == [(1,)]
    finally:
        cluster.stop()
