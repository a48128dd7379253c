"""Results that clients fetch from the executors that hold them: by ADBC as a user would, and call by call."""

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi as flight_sql
import pyarrow
import pyarrow.flight as flight
import pytest

from conftest import Cluster, volley_sql, wait_until
from flight_messages import SQL, Caller, command, encode, refused

# Too many rows for a report, in a task for each range of keys.
SETTINGS = ["volley.fit = 'never'", "volley.range_sort_bytes = 0", "volley.min_bytes_per_partition = 1"]
SORTED = "SELECT l_orderkey AS k, l_linenumber AS n, l_comment AS c FROM lineitem ORDER BY k, n"
ROWS = 60175
HERE = b"arrow-flight-reuse-connection://?"
COOKIES = {adbc_driver_flightsql.DatabaseOptions.WITH_COOKIE_MIDDLEWARE.value: "true"}


@pytest.fixture()
def cluster(tmp_path, tpch):
    cluster = Cluster(tmp_path)
    cluster.scheduler()
    cluster.executor(1)
    cluster.executor(2)
    wait_until("two executors", lambda: cluster.executors() == 2)
    cluster.sql(f"CREATE EXTERNAL TABLE lineitem STORED AS PARQUET LOCATION '{tpch}/lineitem.parquet'")
    yield cluster
    cluster.stop()


@pytest.fixture()
def caller(cluster):
    caller = Caller(cluster, cookie="direct")
    for setting in [*SETTINGS, "volley.result_endpoints = 'executors'"]:
        caller.query(f"SET {setting}")
    return caller


def asked(caller, sql):
    return caller.info(command("CommandStatementQuery", (1, sql)))


def of_executor(endpoint):
    """The rows of an endpoint, from its executor."""
    (location, here) = endpoint.locations
    assert here.uri == HERE
    with flight.connect(location) as client:
        return client.do_get(endpoint.ticket).read_all()


def keys(table):
    return list(zip(table["k"].to_pylist(), table["n"].to_pylist()))


def assert_whole(table):
    assert table.num_rows == ROWS
    assert keys(table) == sorted(keys(table))


def state_of(cluster, job):
    return cluster.told("job", job)["state"]


def test_rows_come_from_executors_in_their_order(cluster, caller):
    info = asked(caller, SORTED)
    assert {endpoint.locations[0].uri.decode() for endpoint in info.endpoints} == {f"grpc+tcp://127.0.0.1:{port}" for port in cluster.ports.values()}
    assert info.ordered
    job = info.app_metadata.decode()
    assert state_of(cluster, job) == "running"
    parts = [of_executor(endpoint) for endpoint in info.endpoints]
    assert all(part.schema == info.schema for part in parts)
    assert_whole(pyarrow.concat_tables(parts))
    # Executors tell what was fetched, so that the job ends and nothing is kept.
    wait_until("the end of the job", lambda: state_of(cluster, job) == "finished")
    assert cluster.told("job", job)["result_rows"] == ROWS
    wait_until("nothing kept", lambda: all(executor["store_bytes"] == 0 for executor in cluster.told("executors")))


def test_the_scheduler_gives_the_same_parts(cluster, caller):
    info = asked(caller, SORTED)
    first, *others = info.endpoints
    here = [of_executor(first), *[caller.get(endpoint.ticket).read_all() for endpoint in others]]
    assert all(part.schema == info.schema for part in here)
    assert_whole(pyarrow.concat_tables(here))
    job = info.app_metadata.decode()
    wait_until("the end of the job", lambda: state_of(cluster, job) == "finished")


def test_parts_of_an_executor_that_died_come_from_the_scheduler(cluster, caller):
    info = asked(caller, SORTED)
    lost = cluster.processes[2]
    lost.kill()
    lost.wait()
    parts = []
    for endpoint in info.endpoints:
        try:
            parts.append(of_executor(endpoint))
        except (flight.FlightError, pyarrow.ArrowException):
            parts.append(caller.get(endpoint.ticket).read_all())
    assert_whole(pyarrow.concat_tables(parts))


def test_a_small_result_comes_from_the_scheduler(caller):
    (endpoint,) = asked(caller, "SELECT count(*) AS n FROM tpch.sf0_01.lineitem").endpoints
    assert not endpoint.locations, "it came with its task's report"
    assert caller.get(endpoint.ticket).read_all().to_pylist() == [{"n": ROWS}]


def test_rows_that_might_be_others_after_a_loss_come_from_the_scheduler(caller):
    (endpoint,) = asked(caller, "SELECT l_comment FROM tpch.sf0_01.lineitem LIMIT 20000").endpoints
    assert not endpoint.locations
    assert caller.get(endpoint.ticket).read_all().num_rows == 20000


@pytest.mark.parametrize("sql", ["SHOW volley.fit", "CREATE VIEW v AS SELECT 1 AS a", "EXPLAIN SELECT 1"])
def test_what_is_no_query_comes_from_the_scheduler(caller, sql):
    (endpoint,) = asked(caller, sql).endpoints
    assert not endpoint.locations


def test_an_executor_takes_no_other_ticket(cluster, caller):
    info = asked(caller, SORTED)
    address = info.endpoints[0].locations[0]
    (whole,) = asked(Caller(cluster, cookie="usual"), SORTED).endpoints
    changed = bytearray(info.endpoints[0].ticket.ticket)
    changed[len(changed) // 2] ^= 1
    bad = {
        whole.ticket.ticket: "the ticket is for the scheduler",
        bytes(changed): "the signature of the ticket is wrong",
        b"nonsense": "not a ticket of this system",
        encode((1, SQL + "TicketStatementQuery"), (2, encode((1, b"nonsense")))): "not a ticket of this system",
    }
    with flight.connect(address) as client:
        for ticket, words in bad.items():
            assert words in str(refused(client.do_get, flight.Ticket(ticket)))
        # And it lives.
        assert client.do_get(info.endpoints[0].ticket).read_all().num_rows > 0


def test_a_ticket_is_not_good_at_another_executor(cluster, caller):
    endpoints = asked(caller, SORTED).endpoints
    first = endpoints[0]
    other = next(endpoint for endpoint in endpoints if endpoint.locations[0] != first.locations[0])
    with flight.connect(other.locations[0]) as client:
        assert "the ticket is for executor" in str(refused(client.do_get, first.ticket))


def test_adbc(cluster):
    with flight_sql.connect(f"grpc://{cluster.address}", db_kwargs=COOKIES, autocommit=True) as connection, connection.cursor() as cursor:
        for setting in [*SETTINGS, "volley.result_endpoints = 'executors'"]:
            cursor.execute(f"SET {setting}")
        for _ in range(3):
            cursor.execute(SORTED)
            assert_whole(cursor.fetch_arrow_table())
        # With an executor gone while its rows wait, the driver goes on to the second location.
        cursor.execute(SORTED)
        cluster.processes[2].kill()
        assert_whole(cursor.fetch_arrow_table())


def test_our_own_clients_read_through_the_scheduler(cluster):
    settings = [f"SET {setting}" for setting in [*SETTINGS, "volley.result_endpoints = 'executors'"]]
    ended = volley_sql(cluster, *settings, SORTED)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[0] == "k,n,c" and len(lines) == ROWS + 1
    found = [tuple(map(int, line.split(",", 2)[:2])) for line in lines[1:]]
    assert found == sorted(found)
