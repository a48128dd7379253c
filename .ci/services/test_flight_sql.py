"""The ADBC driver for Flight SQL from PyPI, as a user would write it."""

import datetime
import decimal
import math
import pathlib
import threading

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi as flight_sql
import adbc_driver_manager
import datafusion
import datafusion.substrait
import pyarrow
import pytest

from conftest import wait_until
from flight_messages import LONG

QUERIES = pathlib.Path(__file__).resolve().parents[2] / "benchmarks" / "queries" / "tpch"
VALUES = [
    7, 1.5, "text", b"bytes", True, None, datetime.date(2020, 2, 29), datetime.time(1, 2, 3), datetime.datetime(2020, 2, 29, 1, 2, 3, 4),
    decimal.Decimal("12.50"),
]
COOKIES = {adbc_driver_flightsql.DatabaseOptions.WITH_COOKIE_MIDDLEWARE.value: "true"}


@pytest.fixture()
def connection(cluster):
    with flight_sql.connect(f"grpc://{cluster.address}", db_kwargs=COOKIES, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def tables(cluster, tpch):
    with flight_sql.connect(f"grpc://{cluster.address}", db_kwargs=COOKIES, autocommit=True) as connection:
        with connection.cursor() as cursor:
            for file in sorted(tpch.glob("*.parquet")):
                cursor.execute(f"CREATE EXTERNAL TABLE {file.stem} STORED AS PARQUET LOCATION '{file}'")
    return tpch


@pytest.fixture(scope="module")
def oracle(tpch):
    context = datafusion.SessionContext()
    for file in sorted(tpch.glob("*.parquet")):
        context.register_parquet(file.stem, str(file))
    return context


def rows(table):
    return [tuple(row.values()) for row in table.to_pylist()]


def same(left, right):
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-12)
    return left == right


def assert_same_rows(expected, actual):
    key = lambda row: tuple((value is None, f"{value:.6g}" if isinstance(value, float) else str(value)) for value in row)
    expected, actual = sorted(rows(expected), key=key), sorted(rows(actual), key=key)
    assert len(expected) == len(actual)
    for left, right in zip(expected, actual):
        assert all(map(same, left, right)), f"{left} != {right}"


def query_text(number):
    return (QUERIES / f"q{number:02}.sql").read_text()


@pytest.mark.parametrize("number", range(1, 23))
@pytest.mark.parametrize("fit", ["auto", "never"])
def test_tpch(connection, tables, oracle, number, fit):
    with connection.cursor() as cursor:
        cursor.execute(f"SET volley.fit = '{fit}'")
        cursor.execute("SET volley.min_bytes_per_partition = 1")
        cursor.execute(query_text(number))
        actual = cursor.fetch_arrow_table()
    expected = oracle.sql(query_text(number)).to_arrow_table()
    assert expected.column_names == actual.column_names
    assert_same_rows(expected, actual)


def test_a_table_is_seen_by_every_session(cluster, tables):
    with flight_sql.connect(f"grpc://{cluster.address}", autocommit=True) as other:
        with other.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM region")
            assert cursor.fetchone() == (5,)


def test_ddl_is_done_when_it_is_answered(connection, tables, tpch):
    with connection.cursor() as cursor:
        for number in range(20):
            cursor.execute(f"CREATE EXTERNAL TABLE many_{number} STORED AS PARQUET LOCATION '{tpch}/region.parquet'")
        for number in range(20):
            cursor.execute(f"SELECT count(*) FROM many_{number}")
            assert cursor.fetchone() == (5,)
            cursor.execute(f"DROP TABLE many_{number}")


def test_parameters(connection, tables):
    with connection.cursor() as cursor:
        cursor.execute("SELECT n_name FROM nation WHERE n_nationkey = ?", (7,))
        assert cursor.fetchone() == ("GERMANY",)
        cursor.execute("SELECT n_name FROM nation WHERE n_regionkey = $2 AND n_name > $1 ORDER BY 1", ("M", 0))
        assert cursor.fetchall() == [("MOROCCO",), ("MOZAMBIQUE",)]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_parameter_of_every_type(connection, value):
    with connection.cursor() as cursor:
        cursor.execute("SELECT ? AS v", (value,))
        assert cursor.fetchone() == (value,)


def test_a_prepared_statement_is_described_and_runs_again(connection, tables):
    with connection.cursor() as cursor:
        schema = cursor.adbc_prepare("SELECT n_name FROM nation WHERE n_nationkey = ? AND n_comment <> ?")
        assert schema.names == ["$1", "$2"]
        for key, name in ((7, "GERMANY"), (6, "FRANCE"), (7, "GERMANY")):
            cursor.execute("SELECT n_name FROM nation WHERE n_nationkey = ? AND n_comment <> ?", (key, ""))
            assert cursor.fetchone() == (name,)
        assert cursor.adbc_execute_schema("SELECT n_name, 1 AS one FROM nation").names == ["n_name", "one"]
        with pytest.raises(adbc_driver_manager.Error, match="takes one|rows of parameters"):
            cursor.adbc_prepare("SELECT ? AS v")
            cursor._stmt.bind(pyarrow.record_batch({"1": [1, 2]}))
            cursor._stmt.execute_query()


def test_updates_say_how_many_rows(connection):
    with connection.cursor() as cursor:
        cursor.executescript("CREATE TABLE counted (a BIGINT, b VARCHAR); INSERT INTO counted VALUES (1, 'x'), (2, 'y')")
        cursor.executemany("INSERT INTO counted VALUES (?, ?)", [(3, "z"), (4, None), (5, "w")])
        assert cursor.rowcount == 3
        cursor.execute("UPDATE counted SET b = ? WHERE a > ?", ("v", 3))
        assert cursor.rowcount == 2
        cursor.execute("SELECT a, b FROM counted ORDER BY a")
        assert cursor.fetchall() == [(1, "x"), (2, "y"), (3, "z"), (4, "v"), (5, "v")]
        cursor.execute("DROP TABLE counted")


def test_substrait(connection, tables, oracle):
    """A plan that another engine has made, as bytes."""
    sql = (
        "SELECT r_name, count(*) AS n, min(n_name) AS first FROM nation JOIN region ON n_regionkey = r_regionkey "
        "WHERE n_nationkey > 3 GROUP BY r_name ORDER BY r_name"
    )
    plan = datafusion.substrait.Serde.serialize_bytes(sql, oracle)
    with connection.cursor() as cursor:
        cursor.execute(plan)
        actual = cursor.fetch_arrow_table()
        expected = oracle.sql(sql).to_arrow_table()
        assert actual.column_names == expected.column_names
        assert_same_rows(expected, actual)
        for wrong in (b"", b"\xff" * 20, plan[:-7], plan.replace(b"nation", b"nasion")):
            with pytest.raises(adbc_driver_manager.Error) as error:
                cursor.execute(wrong)
            assert error.value.status_code == adbc_driver_manager.AdbcStatusCode.INVALID_ARGUMENT, error.value
        statement = cursor._stmt
        statement.set_substrait_plan(plan)
        handle, _ = statement.execute_query()
        assert pyarrow.RecordBatchReader._import_from_c(handle.address).read_all().num_rows == expected.num_rows


def test_texts_of_more_than_two_gib_in_all(connection):
    """Beyond what offsets of 32 bits reach, through an exchange and to a client that reads them batch by batch."""
    with connection.cursor() as cursor:
        for name, value in (("datafusion.execution.batch_size", 64), ("volley.fit", "'never'"), ("volley.min_bytes_per_partition", 1)):
            cursor.execute(f"SET {name} = {value}")
        cursor.execute(
            "SELECT k, v, s FROM (SELECT value % 7 AS k, value AS v, repeat(chr(CAST(97 + value % 26 AS INT)), 1000000) AS s "
            "FROM generate_series(1, 2300)) AS made ORDER BY k, v"
        )
        seen, size = [], 0
        for batch in cursor.fetch_record_batch():
            seen += zip(batch["k"].to_pylist(), batch["v"].to_pylist())
            for value, text in zip(batch["v"], batch["s"]):
                view = text.as_buffer()
                assert view.size == 1_000_000 and view[0] == view[view.size - 1] == 97 + value.as_py() % 26
                size += view.size
    assert size == 2_300_000_000
    assert seen == sorted((value % 7, value) for value in range(1, 2301))


def test_an_error_names_the_place(connection, tables):
    with connection.cursor() as cursor:
        with pytest.raises(adbc_driver_manager.Error) as error:
            cursor.execute("SELECT n_nam FROM nation")
            cursor.fetchall()
        assert "n_nam" in str(error.value)
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)


def test_settings_need_a_session(cluster):
    with flight_sql.connect(f"grpc://{cluster.address}", autocommit=True) as connection:
        with connection.cursor() as cursor:
            with pytest.raises(adbc_driver_manager.Error, match="cookie"):
                cursor.execute("SET volley.fit = 'never'")


def test_metadata(connection, tables):
    objects = connection.adbc_get_objects(depth="tables").read_all().to_pylist()
    assert {"volley", "tpch", "tpcds"} <= {catalog["catalog_name"] for catalog in objects}
    assert connection.adbc_get_table_schema("nation").names == ["n_nationkey", "n_name", "n_regionkey", "n_comment"]
    schema = connection.adbc_get_table_schema("part", catalog_filter="tpch", db_schema_filter="sf1")
    assert schema.field("p_size").type == pyarrow.int32()
    filters = dict(catalog_filter="tpch", db_schema_filter="sf0_01", table_name_filter="%supp", column_name_filter="ps_s%")
    (catalog,) = connection.adbc_get_objects(depth="all", **filters).read_all().to_pylist()
    (db_schema,) = catalog["catalog_db_schemas"]
    (table,) = db_schema["db_schema_tables"]
    assert (catalog["catalog_name"], db_schema["db_schema_name"], table["table_name"]) == ("tpch", "sf0_01", "partsupp")
    assert [column["column_name"] for column in table["table_columns"]] == ["ps_suppkey", "ps_supplycost"]
    assert set(connection.adbc_get_table_types()) == {"TABLE", "VIEW", "LOCAL TEMPORARY"}
    info = connection.adbc_get_info()
    assert (info["vendor_name"], info["driver_name"]) == ("Volley", "ADBC Flight SQL Driver - Go")


def test_the_current_catalog_and_schema(connection):
    assert (connection.adbc_current_catalog, connection.adbc_current_db_schema) == ("volley", "public")
    connection.adbc_current_catalog = "tpch"
    connection.adbc_current_db_schema = "sf0_01"
    assert (connection.adbc_current_catalog, connection.adbc_current_db_schema) == ("tpch", "sf0_01")
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM nation")
        assert cursor.fetchone() == (25,)


def test_a_transaction_is_refused(cluster):
    with pytest.warns(Warning, match="autocommit"):
        flight_sql.connect(f"grpc://{cluster.address}", db_kwargs=COOKIES).close()


def test_partitions_are_read_by_another_connection(cluster, connection):
    with connection.cursor() as cursor:
        partitions, schema = cursor.adbc_execute_partitions("SELECT n_name FROM tpch.sf0_01.nation ORDER BY 1")
        assert schema.names == ["n_name"] and len(partitions) == 1
    with flight_sql.connect(f"grpc://{cluster.address}", autocommit=True) as other, other.cursor() as cursor:
        cursor.adbc_read_partition(partitions[0])
        assert cursor.fetchone() == ("ALGERIA",)


def test_partitions_come_as_the_statement_goes_on(connection):
    """The driver polls until all rows are there: one partition, then none."""
    with connection.cursor() as cursor:
        statement = cursor.adbc_statement
        statement.set_options(**{adbc_driver_manager.StatementOptions.INCREMENTAL.value: "true"})
        statement.set_sql_query("SELECT count(*) AS n FROM tpch.sf0_1.lineitem")
        rounds = []
        while True:
            partitions, _, _ = statement.execute_partitions()
            rounds.append((len(partitions), statement.get_option_float(adbc_driver_manager.StatementOptions.PROGRESS.value)))
            if not partitions:
                break
        assert rounds == [(1, 1.0), (0, 0.0)]


def jobs_of(cluster, statement):
    return [job["state"] for job in cluster.told("jobs") if statement in job["statement"]]


def test_a_cancel_ends_the_job(cluster, connection):
    marked = LONG.replace("SELECT", "SELECT 'cancelled' AS by,")
    with connection.cursor() as cursor:
        cursor.execute(marked)
        wait_until("the job runs", lambda: jobs_of(cluster, "'cancelled' AS by") == ["running"])
        canceller = threading.Timer(0.5, cursor.adbc_cancel)
        canceller.start()
        with pytest.raises(adbc_driver_manager.Error):
            cursor.fetchall()
        canceller.join()
    wait_until("the job is cancelled", lambda: jobs_of(cluster, "'cancelled' AS by") == ["cancelled"])


def test_a_cursor_that_is_closed_ends_the_job(cluster, connection):
    marked = LONG.replace("SELECT", "SELECT 'closed' AS by,")
    with connection.cursor() as cursor:
        cursor.execute(marked)
        wait_until("the job runs", lambda: jobs_of(cluster, "'closed' AS by") == ["running"])
    wait_until("the job is cancelled", lambda: jobs_of(cluster, "'closed' AS by") == ["cancelled"])


def test_a_row_beyond_what_the_driver_takes(cluster):
    """Frames are small, but a row is not divided: the error has the option's limit, and with the option it comes."""
    sql = "SELECT repeat('x', 20000000) AS x"
    with flight_sql.connect(f"grpc://{cluster.address}", autocommit=True) as connection, connection.cursor() as cursor:
        with pytest.raises(adbc_driver_manager.Error, match="larger than max .* vs. 16777216"):
            cursor.execute(sql)
            cursor.fetchall()
    wide = {adbc_driver_flightsql.DatabaseOptions.WITH_MAX_MSG_SIZE.value: str(64 << 20)}
    with flight_sql.connect(f"grpc://{cluster.address}", db_kwargs=wide, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        assert len(cursor.fetchone()[0]) == 20_000_000


def test_health(cluster):
    assert cluster.get("/healthz") == 200
    assert cluster.get("/readyz") == 200
