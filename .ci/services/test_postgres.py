"""PostgreSQL's clients as users run them, psql, psycopg, psycopg2 and asyncpg, on a scheduler that speaks their protocol."""

import asyncio
import contextlib
import datetime
import decimal
import math
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import threading
import time

import asyncpg
import datafusion
import psycopg
import psycopg.errors
import psycopg2
import pytest
import sqlalchemy

from conftest import VOLLEY, Cluster, free_port, wait_until

QUERIES = pathlib.Path(__file__).resolve().parents[2] / "benchmarks" / "queries" / "tpch"
LONG = "SELECT count(*) FROM tpch.sf1.lineitem AS a JOIN tpch.sf1.lineitem AS b ON a.l_partkey = b.l_partkey WHERE a.l_comment < b.l_comment"
# More than it may take of the scheduler's memory to pass them on.
MANY = 3_000_000
MOST_RESIDENT_MIB = 200


class Postgres(Cluster):
    """A cluster whose scheduler also speaks PostgreSQL's protocol."""

    def __init__(self, folder):
        super().__init__(folder)
        self.port = free_port()

    def scheduler(self, fail_point=None):
        place = ["--listen", self.address, "--http", self.http, "--state-dir", self.folder / "state"]
        self.of_scheduler = self.start("scheduler", "scheduler", *place, "--postgres", f"127.0.0.1:{self.port}", fail_point=fail_point)
        return self.of_scheduler

    def parameters(self, **more):
        return {"host": "127.0.0.1", "port": self.port, "user": "ada", **more}

    def psql(self, *arguments, database="volley", stdin=None):
        """`psql` to its end: exit code, output, messages."""
        command = ["psql", "-X", "-h", "127.0.0.1", "-p", str(self.port), "-U", "ada", "-d", database, *arguments]
        environment = {**os.environ, "PGCONNECT_TIMEOUT": "10"}
        return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, input=stdin)

    def shown(self, command, database="volley"):
        """The rows that psql shows, without a table around them."""
        ended = self.psql("-A", "-t", "-c", command, database=database)
        assert ended.returncode == 0 and ended.stderr == "", ended.stderr
        return ended.stdout.splitlines()

    def running(self):
        return [job["job"] for job in self.told("jobs") if job["state"] not in ("finished", "failed", "cancelled")]

    def wait_idle(self):
        """Waits until no job runs; says which does where one goes on."""
        try:
            wait_until("no jobs", lambda: self.running() == [])
        except TimeoutError as error:
            raise AssertionError([(job["job"], job["state"], job["statement"]) for job in self.told("jobs") if job["job"] in self.running()]) from error

    def resident_mib(self):
        status = pathlib.Path(f"/proc/{self.of_scheduler.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory, tpch):
    server = Postgres(tmp_path_factory.mktemp("postgres"))
    server.scheduler()
    server.executor(1)
    server.executor(2)
    wait_until("a ready scheduler", lambda: server.get("/readyz") == 200)
    wait_until("two executors", lambda: server.executors() == 2)
    with psycopg.connect(**server.parameters(), autocommit=True) as connection:
        for file in sorted(tpch.glob("*.parquet")):
            connection.execute(f"CREATE EXTERNAL TABLE {file.stem} STORED AS PARQUET LOCATION '{file}'")
        connection.execute("CREATE VIEW cheap AS SELECT p_partkey, p_name FROM part WHERE p_retailprice < 1000")
        connection.execute("CREATE SCHEMA side")
        connection.execute("CREATE TABLE side.small (id BIGINT, name VARCHAR, price DECIMAL(10, 2), made TIMESTAMP)")
    yield server
    server.stop()


@pytest.fixture()
def connection(server):
    with psycopg.connect(**server.parameters(), autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def oracle(tpch):
    context = datafusion.SessionContext()
    for file in sorted(tpch.glob("*.parquet")):
        context.register_parquet(file.stem, str(file))
    return context


def same(left, right):
    if isinstance(left, (float, decimal.Decimal)) and isinstance(right, (float, decimal.Decimal)):
        return math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-9)
    return left == right


def refused(connection, statement, parameters=None):
    """What a client is told of a statement that fails."""
    with pytest.raises(psycopg.Error) as error:
        connection.execute(statement, parameters)
    return error.value


# psql

def test_psql_lists_what_there_is(server):
    tables = ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"]
    assert server.shown("\\dt") == [f"public|{name}|table|ada" for name in tables] + ["side|small|table|ada"]
    assert server.shown("\\dv") == ["public|cheap|view|ada"]
    assert server.shown("\\dt side.*") == ["side|small|table|ada"]
    assert [line.split("|")[0] for line in server.shown("\\dn")] == ["public", "side"]
    assert {"volley", "tpch"} <= {line.split("|")[0] for line in server.shown("\\l")}
    assert "Did not find any relations." in server.psql("-c", "\\di").stderr


def test_psql_describes_a_table(server):
    assert [line.split("|")[:2] for line in server.shown("\\d nation")] == [
        ["n_nationkey", "bigint"], ["n_name", "text"], ["n_regionkey", "bigint"], ["n_comment", "text"]]
    assert [line.split("|")[:2] for line in server.shown("\\d side.small")] == [
        ["id", "bigint"], ["name", "text"], ["price", "numeric"], ["made", "timestamp without time zone"]]
    assert [line.split("|")[0] for line in server.shown("\\d cheap")] == ["p_partkey", "p_name"]
    ended = server.psql("-c", "\\d no_such_table")
    assert 'Did not find any relation named "no_such_table".' in ended.stderr
    for command in ["\\d+ nation", "\\dt+", "\\l+", "\\dn+", "\\df", "\\du", "\\dx", "\\dp", "\\d", "\\da", "\\db", "\\do"]:
        ended = server.psql("-c", command)
        assert ended.returncode == 0 and "ERROR" not in ended.stderr, f"{command}: {ended.stderr}"


def test_psql_sees_another_database(server):
    assert "sf1|lineitem|table|ada" in server.shown("\\dt sf1.*", database="tpch")
    assert server.shown("SELECT count(*) FROM sf0_01.nation", database="tpch") == ["25"]
    ended = server.psql("-c", "SELECT 1", database="no_such_database")
    assert ended.returncode == 2 and 'database "no_such_database" does not exist' in ended.stderr


def test_psql_runs_scripts(server):
    script = "SELECT 1 AS a;\nSELECT 'x;y' AS b, NULL AS c; -- a comment;\nSELECT count(*) FROM nation;\n\\echo done\n"
    ended = server.psql("-A", "-q", stdin=script)
    assert ended.stdout.splitlines() == ["a", "1", "(1 row)", "b|c", "x;y|", "(1 row)", "count(*)", "25", "(1 row)", "done"], ended
    # All of one message, of which the second fails: the first has its rows, the third is not run.
    ended = server.psql("-A", "-t", "-c", "SELECT 1; SELECT no_such_column FROM nation; SELECT 3")
    assert (ended.returncode, ended.stdout) == (1, "1\n")
    error, line, caret = ended.stderr.splitlines()[:3]
    assert error.startswith("ERROR:  unknown column") and line.startswith("LINE 1: SELECT 1; SELECT no_such_column"), ended.stderr
    assert caret.index("^") == line.index("no_such_column")


def test_psql_cancels_by_ctrl_c(server):
    command = ["psql", "-X", "-h", "127.0.0.1", "-p", str(server.port), "-U", "ada", "-d", "volley", "-c", LONG]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until("a job", lambda: server.busy_slots() > 0)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert time.monotonic() - began < 2
    assert "canceling statement due to user request" in errors
    server.wait_idle()
    assert time.monotonic() - began < 3
    wait_until("free slots", lambda: server.busy_slots() == 0)


# Queries and types

@pytest.mark.parametrize("number", [1, 3, 5, 9, 13, 18])
def test_answers_are_those_of_datafusion(connection, oracle, number):
    query = (QUERIES / f"q{number:02}.sql").read_text()
    expected = [tuple(row.values()) for batch in oracle.sql(query).collect() for row in batch.to_pylist()]
    for binary in [False, True]:
        found = connection.cursor(binary=binary).execute(query).fetchall()
        assert len(found) == len(expected)
        for left, right in zip(found, expected):
            assert all(map(same, left, right)), f"{left} {right}"


TYPES = [
    ("true", True), ("CAST(-7 AS SMALLINT)", -7), ("CAST(7 AS INT)", 7), ("CAST(-9223372036854775808 AS BIGINT)", -(2**63)),
    ("CAST(18446744073709551615 AS BIGINT UNSIGNED)", decimal.Decimal(2**64 - 1)), ("CAST(1.5 AS REAL)", 1.5), ("CAST(1e-7 AS DOUBLE)", 1e-7),
    ("CAST('NaN' AS DOUBLE)", "nan"), ("CAST('12345678901234567890123456789012345.678' AS DECIMAL(38, 3))",
                                       decimal.Decimal("12345678901234567890123456789012345.678")),
    ("CAST(-0.05 AS DECIMAL(5, 2))", decimal.Decimal("-0.05")), ("'ünï''code'", "ünï'code"), ("''", ""), ("X'00ff'", b"\x00\xff"),
    ("DATE '2024-02-29'", datetime.date(2024, 2, 29)), ("TIME '01:02:03.5'", datetime.time(1, 2, 3, 500000)),
    ("TIMESTAMP '2024-02-29 01:02:03.000004'", datetime.datetime(2024, 2, 29, 1, 2, 3, 4)),
    ("arrow_cast('2024-02-29T01:02:03+02:00', 'Timestamp(Nanosecond, Some(\"+00:00\"))')",
     datetime.datetime(2024, 2, 28, 23, 2, 3, tzinfo=datetime.timezone.utc)),
    ("INTERVAL '3 days 4 hours'", datetime.timedelta(days=3, hours=4)), ("[1, NULL, 3]", [1, None, 3]), ("['a,b', NULL, '', 'q\"']", ["a,b", None, "", 'q"']),
    ("[1.5, 2.5]", [1.5, 2.5]), ("named_struct('a', 1, 'b', 'x')", {"a": 1, "b": "x"}), ("NULL", None), ("CAST(NULL AS INTERVAL)", None),
    ("CAST(NULL AS DECIMAL(10, 2))", None),
]


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("expression, expected", TYPES, ids=[expression for expression, _ in TYPES])
def test_values_of_all_types(connection, expression, expected, binary):
    [(found,)] = connection.cursor(binary=binary).execute(f"SELECT {expression} AS x").fetchall()
    if expected == "nan":
        assert math.isnan(found)
    else:
        assert found == expected and type(found) is type(expected)


def test_results_without_rows_and_rows_without_results(connection):
    cursor = connection.execute("SELECT n_name, n_nationkey FROM nation WHERE n_nationkey < 0")
    assert (cursor.fetchall(), cursor.statusmessage, [column.name for column in cursor.description]) == ([], "SELECT 0", ["n_name", "n_nationkey"])
    assert connection.execute("").statusmessage is None
    assert connection.execute("-- nothing").statusmessage is None
    cursor = connection.execute("SET volley.fit = 'never'")
    assert (cursor.statusmessage, cursor.description) == ("SET", None)
    assert connection.execute("RESET volley.fit").statusmessage == "RESET"


def test_completions_are_told_as_by_postgres(connection):
    told = lambda statement: connection.execute(statement).statusmessage
    assert told("CREATE TABLE told (a INT, b VARCHAR)") == "CREATE TABLE"
    assert told("INSERT INTO told VALUES (1, 'x'), (2, 'y')") == "INSERT 0 2"
    assert told("UPDATE told SET b = 'z' WHERE a = 1") == "UPDATE 1"
    assert told("DELETE FROM told WHERE a = 2") == "DELETE 1"
    assert told("SELECT * FROM told") == "SELECT 1"
    assert told("CREATE TABLE copied AS SELECT * FROM told") == "SELECT 1"
    assert told("CREATE VIEW seen AS SELECT * FROM told") == "CREATE VIEW"
    assert told("TRUNCATE TABLE told") == "TRUNCATE TABLE"
    for statement, tag in [("DROP VIEW seen", "DROP VIEW"), ("DROP TABLE copied", "DROP TABLE"), ("DROP TABLE told", "DROP TABLE")]:
        assert told(statement) == tag
    cursor = connection.execute("CREATE TABLE counted (a INT)")
    cursor.executemany("INSERT INTO counted VALUES (%s)", [(1,), (2,), (3,)])
    assert cursor.rowcount == 3
    assert connection.execute("SELECT sum(a) FROM counted").fetchone() == (6,)
    connection.execute("DROP TABLE counted")


# Parameters

PARAMETERS = [
    7, -(2**40), 1.25, "text", "qu'ote", b"\x00\xff", True, None, decimal.Decimal("12.345"), datetime.date(2024, 2, 29), datetime.time(1, 2, 3, 4),
    datetime.datetime(2024, 2, 29, 1, 2, 3, 4), datetime.datetime(2024, 2, 29, 1, 2, 3, tzinfo=datetime.timezone.utc),
    datetime.timedelta(days=1, seconds=2), [1, 2, 3],
]


@pytest.mark.parametrize("form", ["%s", "%b", "%t"])
@pytest.mark.parametrize("value", PARAMETERS, ids=repr)
def test_parameters_come_back(connection, value, form):
    cursor = connection.execute(f"SELECT {form} AS x, n_name FROM nation WHERE n_nationkey = {form}", (value, 3))
    [(found, name)] = cursor.fetchall()
    assert found == value and name == "CANADA"


def test_lists_of_texts_are_parameters(connection):
    assert connection.execute("SELECT %b AS x", (["a", "b,c", None],)).fetchone() == (["a", "b,c", None],)
    assert connection.execute("SELECT count(*) FROM nation WHERE n_name = ANY(%b)", (["CHINA", "PERU", "x"],)).fetchone() == (2,)


def test_parameters_are_compared_exactly(connection):
    least = connection.execute("SELECT count(*) FROM lineitem WHERE l_discount > %s", (decimal.Decimal("0.0449"),)).fetchone()
    most = connection.execute("SELECT count(*) FROM lineitem WHERE l_discount > 0.0449").fetchone()
    assert least == most and least[0] > 0
    # A fraction is equal to no whole number.
    assert connection.execute("SELECT count(*) FROM nation WHERE n_nationkey = %s", (decimal.Decimal("2.5"),)).fetchone() == (0,)
    assert connection.execute("SELECT count(*) FROM nation WHERE n_nationkey = ANY(%s)", ([1, 2, 99],)).fetchone() == (2,)
    assert connection.execute("SELECT n_name FROM nation ORDER BY n_name LIMIT %s OFFSET %s", (2, 1)).fetchall() == [("ARGENTINA",), ("BRAZIL",)]
    assert refused(connection, "SELECT * FROM nation WHERE n_nationkey = %s", ("many",)).sqlstate == "22P02"


def test_prepared_statements_of_psycopg(connection):
    connection.prepare_threshold = 0
    for key, name in [(1, "ARGENTINA"), (2, "BRAZIL"), (3, "CANADA")]:
        assert connection.execute("SELECT n_name FROM nation WHERE n_nationkey = %s", (key,)).fetchone() == (name,)
    connection.execute("DEALLOCATE ALL")


def test_psycopg2_reads_and_writes(server):
    connection = psycopg2.connect(**server.parameters(dbname="volley"))
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT n_name, %s FROM nation WHERE n_nationkey = %s", ("it's", 7))
        assert cursor.fetchall() == [("GERMANY", "it's")]
    connection.close()


def run(work):
    return asyncio.run(asyncio.wait_for(work, 120))


def test_asyncpg_binds_in_binary(server):
    async def work():
        connection = await asyncpg.connect(**server.parameters(database="volley"))
        try:
            row = await connection.fetchrow("SELECT n_name, n_nationkey FROM nation WHERE n_nationkey = $1", 8)
            assert (row["n_name"], row["n_nationkey"]) == ("INDIA", 8)
            values = await connection.fetchrow(
                "SELECT $1::text, $2::bigint, $3::double, $4::boolean, $5::date, $6::timestamp, $7::bytea, $8::bigint[], $9::decimal(20, 4)",
                "x", 2**40, 0.1, False, datetime.date(1999, 12, 31), datetime.datetime(1999, 12, 31, 23, 59, 59, 999999), b"\x01", [1, None, 3],
                decimal.Decimal("123.4567"),
            )
            assert tuple(values) == (
                "x", 2**40, 0.1, False, datetime.date(1999, 12, 31), datetime.datetime(1999, 12, 31, 23, 59, 59, 999999), b"\x01", [1, None, 3],
                decimal.Decimal("123.4567"),
            )
            await connection.execute("CREATE TABLE made (id BIGINT, name VARCHAR, price DECIMAL(10, 2))")
            await connection.executemany("INSERT INTO made VALUES ($1, $2, $3)", [(1, "a", decimal.Decimal("1.50")), (2, None, None)])
            assert [tuple(row) for row in await connection.fetch("SELECT * FROM made ORDER BY id")] == [(1, "a", decimal.Decimal("1.50")), (2, None, None)]
            assert await connection.execute("DROP TABLE made") == "DROP TABLE"
            assert (await connection.fetchval("SELECT named_struct('a', $1::bigint)", 5)) == '{"a":5}'
        finally:
            await connection.close()
    run(work())


def test_asyncpg_fetches_in_parts(server):
    async def work():
        connection = await asyncpg.connect(**server.parameters(database="volley"))
        try:
            async with connection.transaction():
                cursor = await connection.cursor("SELECT value FROM generate_series(1, 10) ORDER BY value")
                assert [row[0] for row in await cursor.fetch(4)] == [1, 2, 3, 4]
                assert [row[0] for row in await cursor.fetch(100)] == [5, 6, 7, 8, 9, 10]
                assert await cursor.fetch(1) == []
                keys = [row[0] async for row in connection.cursor("SELECT n_nationkey FROM nation ORDER BY 1", prefetch=7)]
                assert keys == list(range(25))
        finally:
            await connection.close()
    run(work())


# Errors, transactions, settings

def test_errors_have_their_states(connection):
    for statement, state in [
        ("SELECT * FROM no_such_table", "42P01"), ("SELECT no_such_column FROM nation", "42703"), ("SELEC 1", "42601"), ("SELECT 1 +", "42601"),
        ("SELECT 'open", "42601"), ("SELECT no_such_function(1)", "42883"), ("SELECT 1 / 0", "22012"), ("SELECT CAST('x' AS INT)", "22P02"),
        ("CREATE TABLE nation (a INT)", "42P07"), ("COPY nation TO STDOUT", "0A000"), ("DECLARE c CURSOR FOR SELECT 1", "0A000"),
        ("LISTEN x", "0A000"), ("SET no_such_setting = 1", "42704"), ("SET volley.no_such = 1", "42704"), ("SET client_encoding = 'LATIN1'", "22023"),
        ("SELECT n_name FROM nation JOIN pg_class ON true", "0A000"), ("SELECT n_name, count(*) FROM nation", "42803"), ("VACUUM", "0A000"),
    ]:
        assert refused(connection, statement).sqlstate == state, statement
    # The connection is as good as before.
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_errors_have_their_place(connection):
    error = refused(connection, "SELECT n_name,\n  n_nam FROM nation")
    assert (error.diag.statement_position, error.diag.message_hint) == ("18", "did you mean 'n_name'?")
    assert isinstance(error, psycopg.errors.UndefinedColumn)


def test_what_was_written_stays_and_says_so(server):
    with psycopg.connect(**server.parameters()) as connection:
        heard = []
        connection.add_notice_handler(lambda notice: heard.append((notice.severity, notice.sqlstate, notice.message_primary)))
        connection.execute("CREATE TABLE kept (a INT)")
        connection.execute("INSERT INTO kept VALUES (1)")
        connection.rollback()
        assert heard == [("WARNING", "01000", "what this transaction wrote stays")]
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (1,)
        connection.rollback()
        assert len(heard) == 1
        # After an error nothing runs until the end, as drivers count on.
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("SELECT * FROM no_such_table")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("SELECT 1")
        connection.rollback()
        with connection.transaction(), contextlib.suppress(psycopg.errors.UndefinedTable), connection.transaction():
            connection.execute("SELECT * FROM no_such_table")
        assert connection.execute("SELECT 1").fetchone() == (1,)
        connection.execute("DROP TABLE kept")
        connection.commit()


def test_settings_that_drivers_send(connection, server):
    for statement in [
        "SET client_encoding TO 'UTF8'", "SET extra_float_digits = 3", "SET DateStyle TO ISO", "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
        "SET application_name = 'a test'", "SET standard_conforming_strings = on", "SET TIME ZONE 'UTC'", "SET statement_timeout = '1h'",
        "SET statement_timeout TO DEFAULT", "SET search_path TO side, public", "RESET ALL", "DISCARD ALL",
    ]:
        connection.execute(statement)
    shown = lambda name: connection.execute(f"SHOW {name}").fetchone()[0]
    assert shown("server_version") == "15.13" and shown("TimeZone") == "UTC"
    assert shown("TRANSACTION ISOLATION LEVEL") == "read committed"
    connection.execute("SET application_name = 'reports'")
    assert shown("application_name") == "reports" == connection.info.parameter_status("application_name")
    with psycopg.connect(**server.parameters(options="-c search_path=side"), autocommit=True) as other:
        assert other.execute("SELECT count(*) FROM small").fetchone() == (0,)
        assert other.execute("SELECT current_schema()").fetchone() == ("side",)
        assert other.execute("SHOW volley.results").fetchone() == ("volley.results", "sealed")
    # Sessions are apart.
    assert connection.execute("SELECT current_schema()").fetchone() == ("public",)


def test_who_and_what(connection, server):
    assert connection.execute("SELECT version()").fetchone()[0].startswith("PostgreSQL 15.13 (Volley ")
    row = connection.execute("SELECT current_user, session_user, current_database(), current_schema(), pg_backend_pid()").fetchone()
    assert row == ("ada", "ada", "volley", "public", connection.info.backend_pid)
    assert connection.execute("SELECT current_setting('server_version_num')").fetchone() == ("150013",)
    assert connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)


def test_a_statement_times_out(connection):
    connection.execute("SET statement_timeout = '500ms'")
    assert refused(connection, LONG).sqlstate == "57014"
    connection.execute("RESET statement_timeout")


def test_sqlalchemy_reflects(server):
    engine = sqlalchemy.create_engine(f"postgresql+psycopg://ada@127.0.0.1:{server.port}/volley")
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("SELECT count(*) FROM nation WHERE n_name < :name"), {"name": "C"}).scalar() == 3
        inspector = sqlalchemy.inspect(connection)
        assert {"public", "side"} <= set(inspector.get_schema_names())
        assert set(inspector.get_table_names()) >= {"nation", "region"}
    engine.dispose()


# Cancelling and leaving

def in_background(work):
    errors = []
    def caught():
        try:
            work()
        except Exception as error:
            errors.append(error)
    thread = threading.Thread(target=caught)
    thread.start()
    return thread, errors


def test_psycopg_cancels(server):
    with psycopg.connect(**server.parameters(), autocommit=True) as connection:
        thread, errors = in_background(lambda: connection.execute(LONG).fetchall())
        wait_until("a job", lambda: server.busy_slots() > 0)
        began = time.monotonic()
        connection.cancel()
        thread.join(20)
        assert time.monotonic() - began < 1
        assert isinstance(errors[0], psycopg.errors.QueryCanceled), errors
        server.wait_idle()
        assert time.monotonic() - began < 2
        wait_until("free slots", lambda: server.busy_slots() == 0)
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert server.running() == []


def test_asyncpg_times_out(server):
    async def work():
        connection = await asyncpg.connect(**server.parameters(database="volley"))
        with pytest.raises(TimeoutError):
            await connection.fetch(LONG, timeout=1)
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()
    run(work())
    wait_until("free slots", lambda: server.busy_slots() == 0)


def test_a_client_that_leaves_takes_its_job_along(server):
    connection = psycopg.connect(**server.parameters(), autocommit=True)
    thread, errors = in_background(lambda: connection.execute(LONG).fetchall())
    wait_until("a job", lambda: server.busy_slots() > 0)
    began = time.monotonic()
    socket.socket(fileno=os.dup(connection.fileno())).shutdown(socket.SHUT_RDWR)
    server.wait_idle()
    assert time.monotonic() - began < 2
    thread.join(20)
    assert errors
    wait_until("free slots", lambda: server.busy_slots() == 0)


def test_a_result_that_is_not_read_to_its_end(server):
    connection = psycopg.connect(**server.parameters(), autocommit=True)
    rows = connection.cursor().stream("SELECT l_orderkey, l_comment FROM tpch.sf1.lineitem")
    assert len(next(rows)) == 2
    rows.close()
    connection.close()
    wait_until("free slots", lambda: server.busy_slots() == 0)
    server.wait_idle()


# Size and abuse

def test_large_results_take_little_memory(server):
    async def work():
        connection = await asyncpg.connect(**server.parameters(database="volley"))
        async with connection.transaction():
            count, total, most = 0, 0, 0
            async for row in connection.cursor(f"SELECT value, 'row number ' || value AS text FROM generate_series(1, {MANY})", prefetch=50_000):
                count, total = count + 1, total + row[0]
                if count % 100_000 == 0:
                    most = max(most, server.resident_mib())
        await connection.close()
        return count, total, most
    before = server.resident_mib()
    count, total, most = run(work())
    assert (count, total) == (MANY, MANY * (MANY + 1) // 2)
    assert most - before < MOST_RESIDENT_MIB, f"{before} MiB before, {most} MiB while {MANY} rows were sent"


def test_many_connections_at_once(server):
    def work():
        with psycopg.connect(**server.parameters(), autocommit=True) as connection:
            for number in range(5):
                assert connection.execute("SELECT %s + 1", (number,)).fetchone() == (number + 1,)
    works = [in_background(work) for _ in range(30)]
    for thread, errors in works:
        thread.join(60)
        assert errors == []


def answer_to(server, sent):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        raw.sendall(sent)
        with contextlib.suppress(ConnectionResetError):
            answer = b""
            while part := raw.recv(65536):
                answer += part
            return answer
        return b""


def test_bad_bytes_end_their_connection_only(server, connection):
    startup = struct.pack("!ii", 8 + 10, 196608) + b"user\0ada\0\0"
    for sent in [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01", b"\0" * 64, os.urandom(256), struct.pack("!ii", 8, 99)]:
        answer_to(server, sent)
    for sent in [b"Q\xff\xff\xff\xff", b"?" + struct.pack("!i", 4), b"B" + struct.pack("!i", 10) + b"\0\0\x7f\xff\0\x01", b"P" + struct.pack("!i", 5) + b"x"]:
        told = answer_to(server, startup + sent)
        assert b"C08P01" in told, told[-200:]
    assert connection.execute("SELECT 1").fetchone() == (1,)
    assert server.of_scheduler.poll() is None


def test_a_wrong_secret_cancels_nothing(server, connection):
    request = struct.pack("!iiii", 16, 80877102, connection.info.backend_pid, 12345)
    thread, errors = in_background(lambda: connection.execute("SELECT count(*) FROM tpch.sf1.lineitem").fetchall())
    answer_to(server, request)
    thread.join(60)
    assert errors == []


def test_a_port_that_is_taken_is_named(server, tmp_path):
    place = ["--listen", f"127.0.0.1:{free_port()}", "--http", f"127.0.0.1:{free_port()}", "--state-dir", tmp_path / "state"]
    ended = subprocess.run([VOLLEY, "scheduler", *place, "--postgres", f"127.0.0.1:{server.port}"], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert f"error: can't listen for PostgreSQL clients on 127.0.0.1:{server.port}: Address already in use" in ended.stderr


def test_the_scheduler_leaves_in_order(tmp_path):
    server = Postgres(tmp_path)
    server.scheduler()
    wait_until("a scheduler", lambda: server.get("/healthz") == 200)
    def connect():
        with contextlib.suppress(psycopg.OperationalError):
            return psycopg.connect(**server.parameters(), autocommit=True)
    wait_until("a connection", connect)
    with connect() as connection:
        server.of_scheduler.send_signal(signal.SIGTERM)
        assert server.of_scheduler.wait(timeout=20) == 0
        assert refused(connection, "SELECT 1").sqlstate in ("57P01", None)
    server.stop()
