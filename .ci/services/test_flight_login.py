"""Users, passwords and bearer tokens, by the clients that people use."""

import hashlib
import time

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi as flight_sql
import adbc_driver_manager
import pyarrow
import pyarrow.flight as flight
import pytest
from adbc_driver_manager import AdbcStatusCode

from conftest import Cluster, wait_until
from flight_messages import command, encode

OPTIONS = adbc_driver_flightsql.DatabaseOptions
COOKIES = {OPTIONS.WITH_COOKIE_MIDDLEWARE.value: "true"}
# "secret" and "hunter2", as `htpasswd -B` writes them.
ADA = "$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"
BOB = "$2b$05$zyxwvutsrqponmlkjihgfeOPnICsbPTOScgSPIqQ1EVImBoBWq2du"
TOKEN = "a-token-of-the-file"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guarded")
    users = folder / "users"
    users.write_text(f"# who may connect\nada:{ADA}\nbob:{BOB}\nnightly:sha256:{hashlib.sha256(TOKEN.encode()).hexdigest()}\n")
    cluster = Cluster(folder)
    cluster.expiry = ["--users", users, "--session-expiry", "4s"]
    cluster.scheduler()
    cluster.executor(1)
    wait_until("an executor", lambda: cluster.get("/readyz") == 200)
    yield cluster
    cluster.stop()


def connect(cluster, **options):
    return flight_sql.connect(f"grpc://{cluster.address}", db_kwargs={**COOKIES, **options}, autocommit=True)


def login(name, password):
    return {"username": name, "password": password}


def one(connection):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 AS one")
        return cursor.fetchone()


def status_of(call):
    with pytest.raises(adbc_driver_manager.Error) as error:
        call()
    return error.value.status_code


@pytest.mark.parametrize("name, password", [("ada", "secret"), ("bob", "hunter2")])
def test_a_name_with_its_password(guarded, name, password):
    with connect(guarded, **login(name, password)) as connection:
        assert one(connection) == (1,)
        with connection.cursor() as cursor:
            cursor.execute("SET volley.weight = 7")
            cursor.execute("SHOW volley.weight")
            assert cursor.fetchone()[1] == "7"


@pytest.mark.parametrize("name, password", [("ada", "Secret"), ("ada", ""), ("ada", "hunter2"), ("eve", "secret"), ("nightly", TOKEN)])
def test_a_wrong_password(guarded, name, password):
    assert status_of(lambda: one(connect(guarded, **login(name, password)))) in (AdbcStatusCode.UNAUTHENTICATED, AdbcStatusCode.IO)


def test_nobody(guarded):
    assert status_of(lambda: one(connect(guarded))) == AdbcStatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("token", ["forged", "", TOKEN[:-1], TOKEN + "x"])
def test_a_forged_token(guarded, token):
    forged = {OPTIONS.AUTHORIZATION_HEADER.value: f"Bearer {token}"}
    assert status_of(lambda: one(connect(guarded, **forged))) == AdbcStatusCode.UNAUTHENTICATED


def test_a_token_of_the_file(guarded):
    with connect(guarded, **{OPTIONS.AUTHORIZATION_HEADER.value: f"Bearer {TOKEN}"}) as connection:
        assert one(connection) == (1,)


class Login:
    """A pyarrow client that logs in."""

    def __init__(self, cluster, name="ada", password="secret"):
        self.client = flight.connect(f"grpc://{cluster.address}")
        self.header = self.client.authenticate_basic_token(name, password)

    def options(self, *more):
        return flight.FlightCallOptions(headers=[self.header, *more], timeout=60)

    def info(self, sql, *more):
        descriptor = flight.FlightDescriptor.for_command(command("CommandStatementQuery", (1, sql)))
        return self.client.get_flight_info(descriptor, self.options(*more))

    def rows(self, sql, *more):
        return self.client.do_get(self.info(sql, *more).endpoints[0].ticket, self.options(*more)).read_all().to_pylist()


def test_a_handshake_gives_a_bearer_token(guarded):
    client = Login(guarded)
    assert client.header[0] == b"authorization" and client.header[1].startswith(b"Bearer ")
    assert client.rows("SELECT 1 AS one") == [{"one": 1}]
    with pytest.raises(flight.FlightUnauthenticatedError):
        Login(guarded, "ada", "wrong")


def test_every_call_wants_a_token(guarded):
    ticket = Login(guarded).info("SELECT 1 AS one").endpoints[0].ticket
    client, descriptor = flight.connect(f"grpc://{guarded.address}"), flight.FlightDescriptor.for_command(command("CommandGetCatalogs"))
    stranger = flight.FlightCallOptions(headers=[(b"cookie", b"volley_session=guessed")])
    basic = flight.FlightCallOptions(headers=[(b"authorization", b"Basic YWRhOnNlY3JldA==")])
    for options in (stranger, basic):
        for call in (
            lambda: client.get_flight_info(descriptor, options),
            lambda: client.get_schema(descriptor, options),
            lambda: client.do_get(ticket, options).read_all(),
            lambda: list(client.do_action(flight.Action("GetSessionOptions", b""), options)),
            lambda: list(client.do_action(flight.Action("volley.jobs", b""), options)),
            lambda: list(client.list_actions(options)),
            lambda: list(client.list_flights(options=options)),
            lambda: client.do_put(descriptor, pyarrow.schema([]), options)[1].read(),
            lambda: client.do_exchange(descriptor, options)[1].read_chunk(),
        ):
            # GetSchema has no error of its own for that in pyarrow.
            with pytest.raises((flight.FlightUnauthenticatedError, OSError), match="unauthenticated error"):
                call()


def test_what_is_of_one_user_is_nothing_to_another(guarded):
    ada, bob = Login(guarded), Login(guarded, "bob", "hunter2")
    info = ada.info("SELECT 1 AS one")
    with pytest.raises(flight.FlightUnauthorizedError, match="another user"):
        bob.client.do_get(info.endpoints[0].ticket, bob.options()).read_all()
    with pytest.raises(flight.FlightUnauthorizedError):
        list(bob.client.do_action(flight.Action("CancelFlightInfo", encode((1, info.serialize()))), bob.options()))
    assert Login(guarded).client.do_get(info.endpoints[0].ticket, Login(guarded).options()).read_all().num_rows == 1, "of the same user"
    cookie = (b"cookie", b"volley_session=shared")
    ada.rows("SET volley.weight = 9", cookie)
    assert ada.rows("SHOW volley.weight", cookie)[0]["value"] == "9"
    assert bob.rows("SHOW volley.weight", cookie)[0]["value"] == "1"


def test_a_token_ends_with_its_session_and_when_it_is_not_used(guarded):
    left, idle = Login(guarded), Login(guarded)
    assert idle.rows("SELECT 1 AS one") == [{"one": 1}]
    list(left.client.do_action(flight.Action("CloseSession", b""), left.options()))
    with pytest.raises(flight.FlightUnauthenticatedError, match="expired"):
        left.rows("SELECT 1")
    used, unused_until = Login(guarded), time.monotonic() + 4 + 2
    while time.monotonic() < unused_until:
        assert used.rows("SELECT 1 AS one") == [{"one": 1}], "a token that is used lives on"
    with pytest.raises(flight.FlightUnauthenticatedError, match="expired"):
        idle.rows("SELECT 1")


def test_a_token_outlasts_a_restart(guarded):
    client = Login(guarded)
    assert client.rows("SELECT 1 AS one") == [{"one": 1}]
    guarded.processes[0].kill()
    guarded.processes[0].wait()
    guarded.processes[0] = guarded.scheduler()
    guarded.processes.pop()
    wait_until("an executor", lambda: guarded.get("/readyz") == 200)
    assert client.rows("SELECT 1 AS one") == [{"one": 1}]


def test_a_file_that_can_not_be_used(tmp_path):
    cluster = Cluster(tmp_path)
    users = tmp_path / "users"
    users.write_text("ada:secret\n")
    cluster.expiry = ["--users", users]
    assert cluster.scheduler().wait(timeout=30) != 0
    log = (tmp_path / "scheduler.log").read_text()
    assert "line 1 of the file of users" in log and "htpasswd" in log
