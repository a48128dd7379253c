"""The ADBC driver for Flight SQL from PyPI, as a user would write it."""

import math
import pathlib

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi as flight_sql
import adbc_driver_manager
import datafusion
import pytest

QUERIES = pathlib.Path(__file__).resolve().parents[2] / "benchmarks" / "queries" / "tpch"
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


def test_health(cluster):
    assert cluster.get("/healthz") == 200
    assert cluster.get("/readyz") == 200
