"""Bulk ingest by the ADBC driver from PyPI, and clients that are slower or faster than the cluster."""

import pathlib
import threading

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi as flight_sql
import adbc_driver_manager
import pyarrow
import pytest
from adbc_driver_manager import AdbcStatusCode

from conftest import Cluster, wait_until

COOKIES = {adbc_driver_flightsql.DatabaseOptions.WITH_COOKIE_MIDDLEWARE.value: "true"}
PEOPLE = pyarrow.table({
    "id": pyarrow.array([1, 2, 3], pyarrow.int64()),
    "Name": ["Ada", None, "Grace"],
    "born": pyarrow.array([-56270, 0, -23033], pyarrow.date32()),
    "pay": pyarrow.array(["1.50", "2.25", None]).cast(pyarrow.decimal128(7, 2)),
    "at": pyarrow.array([0, 1, None], pyarrow.timestamp("us", "UTC")),
    "kind": pyarrow.array(["a", "b", "a"]).dictionary_encode(),
    "tags": [["x"], [], None],
    "raw": [b"\x00", b"", None],
})


@pytest.fixture()
def connection(cluster):
    with flight_sql.connect(f"grpc://{cluster.address}", db_kwargs=COOKIES, autocommit=True) as connection:
        yield connection


@pytest.fixture()
def cursor(connection, request):
    """A cursor, and no table `t` before or after."""
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS t")
        yield cursor
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS t")


def fetched(cursor, sql):
    cursor.execute(sql)
    return cursor.fetchall()


def refused(cursor, *arguments, **more):
    with pytest.raises(adbc_driver_manager.Error) as error:
        cursor.adbc_ingest(*arguments, **more)
    return error.value


def test_every_type_comes_back_as_it_was(cursor):
    assert cursor.adbc_ingest("t", PEOPLE) == 3
    cursor.execute("SELECT * FROM t ORDER BY id")
    rows = cursor.fetch_arrow_table()
    assert rows.column_names == PEOPLE.column_names
    assert rows.to_pylist() == PEOPLE.to_pylist()
    assert rows.schema.field("at").type == PEOPLE.schema.field("at").type
    assert rows.schema.field("pay").type == PEOPLE.schema.field("pay").type
    assert fetched(cursor, 'SELECT "Name" FROM t WHERE id = 3') == [("Grace",)]


def test_the_modes(cursor):
    assert refused(cursor, "t", PEOPLE, mode="append").status_code == AdbcStatusCode.NOT_FOUND
    assert cursor.adbc_ingest("t", PEOPLE, mode="create") == 3
    exists = refused(cursor, "t", PEOPLE, mode="create")
    assert exists.status_code == AdbcStatusCode.ALREADY_EXISTS and "create_append" in str(exists)
    assert cursor.adbc_ingest("t", PEOPLE, mode="append") == 3
    assert cursor.adbc_ingest("t", PEOPLE, mode="create_append") == 3
    assert fetched(cursor, "SELECT count(*) FROM t") == [(9,)]
    other = pyarrow.table({"n": [7]})
    assert cursor.adbc_ingest("t", other, mode="replace") == 1
    assert fetched(cursor, "SELECT * FROM t") == [(7,)]
    # A batch without rows: of no batch at all the driver sends nothing, not even which table it would be.
    assert cursor.adbc_ingest("t", other.to_batches()[0].slice(0, 0), mode="append") == 0
    cursor.execute("DROP TABLE t")
    assert cursor.adbc_ingest("t", other, mode="create_append") == 1
    assert fetched(cursor, "SELECT * FROM t") == [(7,)]


def test_columns_are_matched_by_name(cursor):
    cursor.execute("CREATE TABLE t (a BIGINT NOT NULL, b VARCHAR DEFAULT 'none', c DOUBLE)")
    assert cursor.adbc_ingest("t", pyarrow.table({"c": [1, 2], "a": pyarrow.array([3, 4], pyarrow.int8())}), mode="append") == 2
    assert fetched(cursor, "SELECT a, b, c FROM t ORDER BY a") == [(3, "none", 1.0), (4, "none", 2.0)]
    for rows, part in [
        ({"a": [1], "d": [1]}, "no column 'd'"),
        ({"a": pyarrow.array([None], pyarrow.int64())}, "takes no null"),
        ({"c": [1.0]}, "takes no null"),
        ({"a": ["one"]}, "one"),
        ({"a": [[1]]}, "a"),
    ]:
        assert part in str(refused(cursor, "t", pyarrow.table(rows), mode="append"))
    assert fetched(cursor, "SELECT count(*) FROM t") == [(2,)]


def test_a_place_may_be_named(connection, cursor):
    rows = pyarrow.table({"n": [1, 2]})
    cursor.execute("CREATE SCHEMA IF NOT EXISTS ingested")
    assert cursor.adbc_ingest("t", rows, catalog_name="volley", db_schema_name="ingested", mode="replace") == 2
    assert fetched(cursor, "SELECT sum(n) FROM volley.ingested.t") == [(3,)]
    assert "nowhere" in str(refused(cursor, "t", rows, db_schema_name="nowhere"))
    assert "tpch" in str(refused(cursor, "t", rows, catalog_name="tpch", db_schema_name="sf1"))
    cursor.execute("DROP TABLE ingested.t")
    cursor.execute("DROP SCHEMA ingested")


def test_a_temporary_table_is_of_one_session(cluster, cursor):
    rows = pyarrow.table({"n": [1, 2]})
    assert cursor.adbc_ingest("t", rows, temporary=True) == 2
    assert cursor.adbc_ingest("t", rows, temporary=True, mode="append") == 2
    assert fetched(cursor, "SELECT sum(n) FROM t") == [(6,)]
    with flight_sql.connect(f"grpc://{cluster.address}", autocommit=True) as other, other.cursor() as keyless:
        with pytest.raises(adbc_driver_manager.Error, match="'?t'? not found"):
            fetched(keyless, "SELECT * FROM t")
        assert "cookie" in str(refused(keyless, "t", rows, temporary=True))


def test_rows_come_batch_by_batch_and_in_order(cursor):
    batches = lambda: (pyarrow.record_batch({"n": pyarrow.array(range(at, at + 1000))}) for at in range(0, 200_000, 1000))
    reader = pyarrow.RecordBatchReader.from_batches(pyarrow.schema({"n": pyarrow.int64()}), batches())
    assert cursor.adbc_ingest("t", reader) == 200_000
    assert fetched(cursor, "SELECT count(*), sum(n), min(n), max(n) FROM t") == [(200_000, 19_999_900_000, 0, 199_999)]


def test_an_error_of_the_client_in_the_middle_leaves_nothing(cursor):
    def batches():
        for at in range(0, 100_000, 1000):
            yield pyarrow.record_batch({"n": pyarrow.array(range(at, at + 1000))})
        raise ValueError("the source broke")

    reader = pyarrow.RecordBatchReader.from_batches(pyarrow.schema({"n": pyarrow.int64()}), batches())
    with pytest.raises((adbc_driver_manager.Error, ValueError, OSError)):
        cursor.adbc_ingest("t", reader)
    with pytest.raises(adbc_driver_manager.Error, match="'?t'? not found"):
        fetched(cursor, "SELECT count(*) FROM t")


def test_many_clients_append_at_once(cluster, cursor):
    cursor.execute("CREATE TABLE t (client BIGINT, n BIGINT)")

    def append(number):
        with flight_sql.connect(f"grpc://{cluster.address}", autocommit=True) as connection, connection.cursor() as own:
            for _ in range(5):
                own.adbc_ingest("t", pyarrow.table({"client": [number] * 100, "n": list(range(100))}), mode="append")

    threads = [threading.Thread(target=append, args=(number,)) for number in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert fetched(cursor, "SELECT client, count(*), sum(n) FROM t GROUP BY client ORDER BY client") == [
        (number, 500, 24_750) for number in range(4)
    ]


# What follows is about memory, in a cluster of its own. The order matters: what a process had most is known for all of its life.

WIDE = 100_000
MEMORY = 512 << 20


def resident(process):
    """Bytes of memory that a process has, and the most that it had."""
    status = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines() if ":" in line)
    return tuple(int(status[name].split()[0]) << 10 for name in ("VmRSS", "VmHWM"))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("small"))
    scheduler = cluster.scheduler()
    executor = cluster.executor(1, slots=2, memory=str(MEMORY))
    wait_until("an executor", lambda: cluster.executors() == 1)
    yield cluster, scheduler, executor
    cluster.stop()


def test_a_client_that_stops_reading_holds_no_memory_beyond_bounds(small):
    """A result of 4 GB: what the client does not take waits in executors, which write it to disk, and for a client that goes away nowhere."""
    cluster, scheduler, executor = small
    sql = "SELECT value AS n, repeat(chr(CAST(97 + value % 26 AS INT)), 1000000) AS wide FROM generate_series(1, 4000)"
    before, _ = resident(scheduler)
    with flight_sql.connect(f"grpc://{cluster.address}", db_kwargs=COOKIES, autocommit=True) as connection, connection.cursor() as cursor:
        # 8192 rows of this size would not fit into one batch.
        cursor.execute("SET datafusion.execution.batch_size = 64")
        cursor.execute(sql)
        reader = cursor.fetch_record_batch()
        rows = reader.read_next_batch().num_rows
        done = lambda: cluster.told("jobs")[0]["state"] in ("finished", "running") and cluster.busy_slots() == 0
        wait_until("the tasks are done, or wait", lambda: done() or held_up(executor))
        assert resident(scheduler)[0] - before < 400 << 20
        assert resident(executor)[1] < MEMORY + (512 << 20)
        rows += sum(batch.num_rows for batch in reader)
        assert rows == 4000
        assert resident(scheduler)[1] - before < 800 << 20
        # One that goes away.
        cursor.execute(sql)
        cursor.fetch_record_batch().read_next_batch()
    wait_until("nothing is kept for it", lambda: all(executor["store_bytes"] == 0 for executor in cluster.told("executors")))


def test_a_client_that_is_faster_than_the_disk_is_held_up(small):
    """2 GB of rows that can't be compressed pass through a scheduler that never has many of them."""
    cluster, scheduler, _ = small
    noise = pathlib.Path("/dev/urandom").open("rb")
    text = noise.read(WIDE)

    def batches():
        for at in range(0, 20_000, 50):
            rows = [text[number % WIDE:] + text[:number % WIDE] for number in range(at, at + 50)]
            yield pyarrow.record_batch({"n": pyarrow.array(range(at, at + 50)), "wide": rows})

    schema = pyarrow.schema({"n": pyarrow.int64(), "wide": pyarrow.binary()})
    before, _ = resident(scheduler)
    with flight_sql.connect(f"grpc://{cluster.address}", autocommit=True) as connection, connection.cursor() as cursor:
        assert cursor.adbc_ingest("wide", pyarrow.RecordBatchReader.from_batches(schema, batches())) == 20_000
        _, most = resident(scheduler)
        assert fetched(cursor, "SELECT count(wide), sum(n), count(DISTINCT n) FROM wide") == [(20_000, 199_990_000, 20_000)]
    assert most - before < 800 << 20, f"the scheduler had {most - before >> 20} MiB more"


def held_up(executor, last={}):
    """Whether an executor has used no more CPU since it was asked last."""
    used = pathlib.Path(f"/proc/{executor.pid}/stat").read_text().split()[13]
    same, last[executor.pid] = last.get(executor.pid) == used, used
    return same
