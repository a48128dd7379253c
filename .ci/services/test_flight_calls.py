"""The calls of Flight and Flight SQL one by one, by pyarrow.flight and messages put together here: what drivers never send among them."""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import textwrap

import pyarrow
import pyarrow.flight as flight
import pytest

from conftest import START_SECONDS, wait_until
from flight_messages import LONG, Caller, Cookies, command, decode, encode, packed, refused, varint

# 64 MiB, beyond which no message is taken.
MOST_BYTES = 64 << 20
KEYS = {
    "CommandGetPrimaryKeys": ["catalog_name", "db_schema_name", "table_name", "column_name", "key_name", "key_sequence"],
    **dict.fromkeys(
        ["CommandGetExportedKeys", "CommandGetImportedKeys", "CommandGetCrossReference"],
        ["pk_catalog_name", "pk_db_schema_name", "pk_table_name", "pk_column_name", "fk_catalog_name", "fk_db_schema_name", "fk_table_name",
         "fk_column_name", "key_sequence", "fk_key_name", "pk_key_name", "update_rule", "delete_rule"],
    ),
}


@pytest.fixture()
def caller(cluster, request):
    return Caller(cluster, cookie=request.node.name)


@pytest.fixture(autouse=True)
def a_living_server(cluster):
    """Whatever a test sends, the server answers afterwards."""
    yield
    assert Caller(cluster).query("SELECT 1 AS one").to_pylist() == [{"one": 1}]
    assert cluster.processes[0].poll() is None


def test_actions_are_listed_and_none_that_is_not_answered(caller):
    names = {action.type for action in caller.client.list_actions(caller.options)}
    assert {
        "CreatePreparedStatement", "ClosePreparedStatement", "CreatePreparedSubstraitPlan", "CancelQuery", "CancelFlightInfo",
        "RenewFlightEndpoint", "SetSessionOptions", "GetSessionOptions", "CloseSession",
    } <= names
    assert not {"BeginTransaction", "EndTransaction", "BeginSavepoint", "EndSavepoint"} & names
    error = refused(caller.act, "BeginTransaction", command("ActionBeginTransactionRequest"))
    assert isinstance(error, NotImplementedError), error


def test_flights_are_not_listed_and_not_exchanged(caller):
    assert list(caller.client.list_flights(options=caller.options)) == []
    writer, reader = caller.client.do_exchange(flight.FlightDescriptor.for_command(b""), caller.options)
    error = refused(reader.read_chunk)
    assert "DoExchange is for executors" in str(error)


def test_a_schema_is_told_and_nothing_is_run(cluster, caller):
    jobs = lambda: {job["job"] for job in cluster.told("jobs")}
    before = jobs()
    sql = "SELECT n_name, n_nationkey, CAST(1.5 AS DECIMAL(5, 2)) AS d FROM tpch.sf0_01.nation"
    schema = caller.schema(command("CommandStatementQuery", (1, sql)))
    assert schema.names == ["n_name", "n_nationkey", "d"] and schema.field("d").type == pyarrow.decimal128(5, 2)
    handle = caller.prepare(sql)[1][0]
    assert caller.schema(command("CommandPreparedStatementQuery", (1, handle))) == schema
    assert jobs() == before
    info = caller.info(command("CommandStatementQuery", (1, sql)))
    assert (info.schema, info.total_records) == (schema, -1)
    for name in ("CommandGetCatalogs", "CommandGetSqlInfo", "CommandGetTableTypes", "CommandGetXdbcTypeInfo"):
        assert caller.schema(command(name)) == caller.rows(command(name)).schema


@pytest.mark.parametrize("name", KEYS)
def test_there_are_no_keys(caller, name):
    table = (2, encode()) if name == "CommandGetCrossReference" else (3, "nation")
    rows = caller.rows(command(name, table))
    assert (rows.num_rows, rows.schema.names) == (0, KEYS[name])


def test_sql_info_is_whole_and_can_be_asked_by_number(caller):
    every = {row["info_name"]: row["value"] for row in caller.rows(command("CommandGetSqlInfo")).to_pylist()}
    assert set(range(0, 12)) | {100, 101} | set(range(500, 577)) <= set(every)
    assert (every[0], every[3], every[4], every[5], every[8], every[10]) == ("Volley", False, True, True, 0, True)
    some = caller.rows(command("CommandGetSqlInfo", (1, 504), (1, 8))).to_pylist()
    assert {row["info_name"]: row["value"] for row in some} == {504: '"', 8: 0}


def test_types_and_kinds_of_tables(caller):
    types = caller.rows(command("CommandGetXdbcTypeInfo"))
    assert {"BIGINT", "VARCHAR", "TIMESTAMP"} <= set(types["type_name"].to_pylist()) and types.num_columns == 19
    assert caller.rows(command("CommandGetXdbcTypeInfo", (1, 12)))["type_name"].to_pylist() == ["VARCHAR"]
    assert set(caller.rows(command("CommandGetTableTypes"))["table_type"].to_pylist()) == {"TABLE", "VIEW", "LOCAL TEMPORARY"}


def test_tables_by_patterns_with_and_without_their_columns(caller):
    fields = [(1, "tpch"), (2, "sf0_01"), (3, "%na_ion"), (4, "TABLE")]
    short = caller.rows(command("CommandGetTables", *fields))
    assert short.num_columns == 4 and short["table_name"].to_pylist() == ["nation"]
    long = caller.rows(command("CommandGetTables", *fields, (5, 1)))
    columns = pyarrow.ipc.read_schema(pyarrow.py_buffer(long["table_schema"][0].as_py()))
    assert columns.names == ["n_nationkey", "n_name", "n_regionkey", "n_comment"]
    assert caller.rows(command("CommandGetTables", (1, ""), (3, "nation"))).num_rows == 0, "nothing is outside of all catalogs"
    assert caller.rows(command("CommandGetTables", (1, "tpch"), (3, "nation"), (4, "VIEW"))).num_rows == 0


GARBAGE = [b"", b"\xff" * 40, b"\x0a\xff\xff\xff\xff\x0f", command("CommandStatementQuery", (1, "SELECT 1"))[:-3], b"V\x01\x02garbage"]


@pytest.mark.parametrize("message", GARBAGE)
def test_a_command_that_is_none(caller, message):
    for call in (caller.info, caller.schema):
        error = refused(call, message)
        assert isinstance(error, (pyarrow.ArrowInvalid, NotImplementedError)), error


def test_a_command_that_is_not_known(caller):
    error = refused(caller.info, command("CommandOfTomorrow", (1, "x")))
    assert isinstance(error, NotImplementedError) and "CommandOfTomorrow" in str(error)
    error = refused(caller.client.get_flight_info, flight.FlightDescriptor.for_path("a", "b"), caller.options)
    assert isinstance(error, (pyarrow.ArrowInvalid, NotImplementedError)), error


@pytest.mark.parametrize("ticket", GARBAGE)
def test_a_ticket_that_is_none(caller, ticket):
    error = refused(caller.get, flight.Ticket(ticket))
    assert isinstance(error, (pyarrow.ArrowInvalid, NotImplementedError)), error


def test_a_ticket_that_was_changed_or_cut_or_is_of_another_kind(caller):
    ticket = caller.info(command("CommandStatementQuery", (1, "SELECT 7 AS a"))).endpoints[0].ticket
    handle = packed(ticket.ticket)[1][0]
    prepared = caller.prepare("SELECT 7 AS a")[1][0]
    changed = [handle[:place] + bytes([handle[place] ^ 1]) + handle[place + 1:] for place in range(0, len(handle), 7)]
    for wrong in [handle[:size] for size in range(0, len(handle), 9)] + changed + [prepared, handle + b"x"]:
        error = refused(caller.get, flight.Ticket(command("TicketStatementQuery", (1, wrong))))
        assert isinstance(error, pyarrow.ArrowInvalid), error
    assert caller.get(ticket).read_all().to_pylist() == [{"a": 7}]


def test_a_prepared_handle_that_is_none_or_of_somebody_else(cluster, caller):
    handle = caller.prepare("SELECT 7 AS a")[1][0]
    execute = lambda handle: command("CommandPreparedStatementQuery", (1, handle))
    assert caller.rows(execute(handle)).to_pylist() == [{"a": 7}]
    for wrong in (b"", b"unknown", handle[:-1], handle[:-1] + bytes([handle[-1] ^ 1])):
        assert isinstance(refused(caller.info, execute(wrong)), pyarrow.ArrowInvalid)
        assert isinstance(refused(caller.schema, execute(wrong)), pyarrow.ArrowInvalid)
    error = refused(Caller(cluster, cookie="somebody else").info, execute(handle))
    assert isinstance(error, flight.FlightUnauthorizedError) and "another session" in str(error)
    (_,) = caller.act("ClosePreparedStatement", command("ActionClosePreparedStatementRequest", (1, handle))) or [None]


def test_a_handle_that_was_given_before_the_cookie_came(cluster):
    """A driver's first call has no cookie yet."""
    handle = Caller(cluster).prepare("SELECT 7 AS a")[1][0]
    assert Caller(cluster, cookie="later").rows(command("CommandPreparedStatementQuery", (1, handle))).to_pylist() == [{"a": 7}]


@pytest.mark.parametrize("body", [b"\xff" * 40, b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x05ab"])
def test_an_action_whose_body_is_none(caller, body):
    for action in caller.client.list_actions(caller.options):
        # Messages without fields have nothing that could be wrong but a field of another kind.
        error = refused(caller.act, action.type, body)
        assert isinstance(error, (pyarrow.ArrowInvalid, NotImplementedError)), (action.type, error)


def test_an_action_that_is_not_known(caller):
    error = refused(caller.act, "DoWhatIMean")
    assert isinstance(error, NotImplementedError) and "DoWhatIMean" in str(error)


def test_a_message_that_is_too_large(caller):
    for call in (caller.info, lambda message: caller.act("SetSessionOptions", message)):
        error = refused(call, b"\x0a" + varint(MOST_BYTES + 1) + b"x" * (MOST_BYTES + 1))
        assert "too large" in str(error) and str(MOST_BYTES) in str(error), error
    error = refused(caller.query, "SELECT '" + "x" * (5 << 20) + "'")
    assert isinstance(error, pyarrow.ArrowInvalid) and "takes at most 4194304" in str(error)


def http2(kind, flags, stream, payload):
    """A frame of HTTP/2."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def call_headers(path):
    """The headers of a gRPC call, each spelled out."""
    text = lambda value: bytes([len(value)]) + value.encode()
    headers = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "a", "content-type": "application/grpc", "te": "trailers"}
    return b"".join(b"\x00" + text(name) + text(value) for name, value in headers.items())


@pytest.mark.parametrize("what", ["noise", "a frame that is cut", "a message that is cut", "a length beyond all bounds", "http/1.1"])
def test_bytes_that_are_no_message(cluster, what):
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + http2(4, 0, 0, b"")
    call = preface + http2(1, 4, 1, call_headers("/arrow.flight.protocol.FlightService/GetFlightInfo"))
    sent = {
        "noise": os.urandom(4096),
        "a frame that is cut": preface + b"\x00\xff\xff\x01",
        # A message of 100 bytes of which 3 come before the end.
        "a message that is cut": call + http2(0, 1, 1, b"\x00" + struct.pack(">I", 100) + b"abc"),
        "a length beyond all bounds": call + http2(0, 0, 1, b"\x00\xff\xff\xff\xff" + b"abc"),
        "http/1.1": b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    }[what]
    host, port = cluster.address.split(":")
    with socket.create_connection((host, int(port)), timeout=START_SECONDS) as stream:
        stream.sendall(sent)
        answer = b""
        with contextlib.suppress(OSError):
            stream.shutdown(socket.SHUT_WR)
            while part := stream.recv(65536):
                answer += part
    if what == "a length beyond all bounds":
        # OUT_OF_RANGE; the header's value may be compressed, its text is not as long as that of a message.
        assert answer, "there is an answer before the connection ends"


def test_a_cookie_is_given_once(cluster):
    cookies = Cookies()
    caller = Caller(cluster, middleware=[cookies])
    caller.query("SELECT 1")
    assert cookies.seen and all(cookie.startswith("volley_session=") for cookie in cookies.seen)
    cookies.seen.clear()
    caller.options = flight.FlightCallOptions(headers=[(b"cookie", b"volley_session=mine")])
    caller.query("SELECT 1")
    assert cookies.seen == []


def test_options_of_a_session(cluster, caller):
    text = lambda value: encode((1, value))
    number = lambda value: b"\x19" + struct.pack("<q", value)
    option = lambda name, value: (1, encode((1, name), (2, value)))
    request = encode(
        option("volley.fit", text("never")), option("volley.weight", number(7)), option("catalog", text("tpch")),
        option("schema", text("sf0_01")), option("nonsense", text("1")), option("volley.queue", text("")),
    )
    (answer,) = caller.act("SetSessionOptions", request)
    errors = {decode(error)[1][0].decode(): decode(decode(error)[2][0])[1][0] for error in decode(answer)[1]}
    assert errors == {"nonsense": 1, "volley.queue": 2}

    def options(caller):
        (answer,) = caller.act("GetSessionOptions")
        pairs = (decode(pair) for pair in decode(answer)[1])
        return {pair[1][0].decode(): decode(pair[2][0])[1][0].decode() for pair in pairs}

    now = options(caller)
    assert (now["volley.fit"], now["volley.weight"], now["catalog"], now["schema"]) == ("never", "7", "tpch", "sf0_01")
    assert options(Caller(cluster, cookie="another"))["volley.fit"] == "auto"
    assert caller.query("SELECT count(*) AS n FROM nation").to_pylist() == [{"n": 25}]
    (closed,) = caller.act("CloseSession")
    assert decode(closed)[1] == [1]
    assert options(caller)["volley.fit"] == "auto"
    keyless = Caller(cluster)
    assert decode(keyless.act("CloseSession")[0])[1] == [3], "there is nothing to close"
    assert "cookies" in str(refused(keyless.act, "SetSessionOptions", request))


@pytest.mark.parametrize("name", ["CancelFlightInfo", "CancelQuery"])
def test_a_statement_is_cancelled_by_its_info(cluster, caller, name):
    info = caller.info(command("CommandStatementQuery", (1, LONG)))
    body = encode((1, info.serialize()))
    if name == "CancelQuery":
        body = command("ActionCancelQueryRequest", (1, info.serialize()))
    (answer,) = caller.act(name, body)
    status = packed(answer)[1] if name == "CancelQuery" else decode(answer)[1]
    assert status == [1], "cancelled"
    job = cluster.told("job", info.app_metadata.decode())
    assert job["state"] == "cancelled"
    assert refused(caller.get, info.endpoints[0].ticket)


def test_a_result_is_kept_for_longer_on_request(caller):
    info = caller.info(command("CommandStatementQuery", (1, "SELECT 7 AS a")))
    endpoint = info.endpoints[0]
    (answer,) = caller.act("RenewFlightEndpoint", encode((1, endpoint.serialize())))
    assert flight.FlightEndpoint.deserialize(answer).ticket == endpoint.ticket
    assert caller.get(endpoint.ticket).read_all().to_pylist() == [{"a": 7}]


def test_a_stream_that_is_dropped_cancels_its_job(cluster, caller):
    info = caller.info(command("CommandStatementQuery", (1, LONG)))
    reader = caller.get(info.endpoints[0].ticket)
    reader.cancel()
    caller.client.close()
    wait_until("the job is cancelled", lambda: cluster.told("job", info.app_metadata.decode())["state"] == "cancelled")


def numbers(first, last, name="n"):
    return pyarrow.table({name: pyarrow.array(range(first, last), pyarrow.int64())})


def test_ingest_by_hand(caller):
    rows = numbers(0, 1000)
    assert caller.ingest("by_hand", rows) == 1000
    assert caller.ingest("by_hand", rows, existing=2) == 1000
    total = lambda: caller.query("SELECT count(*) AS n, sum(n) AS s FROM by_hand").to_pylist()
    assert total() == [{"n": 2000, "s": 999000}]
    # With no rows there is a table still.
    assert caller.ingest("by_hand", rows.slice(0, 0), existing=3) == 0
    assert total() == [{"n": 0, "s": None}]
    caller.query("DROP TABLE by_hand")
    assert "does not exist" in str(refused(caller.ingest, "by_hand", rows, 2, 2))


def test_an_ingest_that_says_too_little_or_too_much(caller):
    rows = numbers(0, 10)
    for arguments, part in [
        ({"table": ""}, "names no table"),
        ({"table": "t", "missing": 0}, "does not say"),
        ({"table": "t", "existing": 0}, "does not say"),
        ({"table": "t", "_6": b"transaction"}, "transactions are not supported"),
        ({"table": "t", "_4": "volley"}, "no schema in it"),
        ({"table": "t", "_1000": encode((1, "speed"), (2, "high"))}, "has an option 'speed'"),
        ({"table": "nation", "_3": "sf0_01", "_4": "tpch"}, "tpch"),
        ({"table": "t", "_3": "nowhere"}, "nowhere"),
    ]:
        error = refused(lambda: caller.ingest(rows=rows, **arguments))
        assert part in str(error), (arguments, error)
    assert "t" not in caller.query("SHOW TABLES")["table_name"].to_pylist()


SENDER = """
    import pyarrow, pyarrow.flight as flight, sys, time
    sys.path.insert(0, sys.argv[1])
    from flight_messages import command, encode
    client = flight.connect("grpc://" + sys.argv[2])
    rows = pyarrow.table({"n": pyarrow.array(range(100_000), pyarrow.int64())})
    ingest = command("CommandStatementIngest", (1, encode((1, 1), (2, 2))), (2, sys.argv[3]))
    writer, reader = client.do_put(flight.FlightDescriptor.for_command(ingest), rows.schema)
    for number in range(50):
        writer.write_table(rows)
    print("sent", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("end", ["killed", "cancelled"])
def test_rows_of_a_client_that_goes_away_are_not_kept(cluster, caller, end):
    """A request that its client cancels looks to a server like one that is complete."""
    table = f"unfinished_{end}"
    caller.query(f"CREATE TABLE {table} AS SELECT 7 AS n")
    files = lambda: [
        os.path.join(path, name) for path, _, names in os.walk(cluster.folder / "state" / "warehouse") for name in names
        if table in path and name.endswith(".parquet")
    ]
    before = files()
    assert len(before) == 1
    if end == "killed":
        arguments = [sys.executable, "-c", textwrap.dedent(SENDER), os.path.dirname(os.path.abspath(__file__)), cluster.address, table]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as sender:
            assert sender.stdout.readline() == "sent\n"
            wait_until("rows are staged", lambda: len(files()) == 2)
            sender.send_signal(signal.SIGKILL)
    else:
        rows = numbers(0, 100_000)
        ingest = command("CommandStatementIngest", (1, encode((1, 1), (2, 2))), (2, table))
        # When its time is over the client resets the stream.
        options = flight.FlightCallOptions(timeout=2)
        writer, reader = caller.client.do_put(flight.FlightDescriptor.for_command(ingest), rows.schema, options)
        with pytest.raises(flight.FlightTimedOutError):
            for _ in range(50):
                writer.write_table(rows)
            reader.read()
            writer.close()
    wait_until("what was staged is gone", lambda: files() == before)
    assert caller.query(f"SELECT count(*) AS n FROM {table}").to_pylist() == [{"n": 1}]
    caller.query(f"DROP TABLE {table}")
