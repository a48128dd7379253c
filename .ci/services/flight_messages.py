"""Messages of Flight SQL, put together by hand, and a client that sends them."""

import pyarrow
import pyarrow.flight as flight
import pytest

SQL = "type.googleapis.com/arrow.flight.protocol.sql."
# A statement that takes minutes.
LONG = "SELECT count(*) FROM tpch.sf1.lineitem AS a JOIN tpch.sf1.lineitem AS b ON a.l_partkey = b.l_partkey WHERE a.l_comment < b.l_comment"


def varint(value):
    """A number as protobuf writes it."""
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def encode(*fields):
    """A message of these fields: number and value, which is text, bytes or a number."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            value = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def decode(message):
    """The fields of a message: a list of values by number."""
    fields, at = {}, 0

    def number():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte, at = message[at], at + 1
            value, shift = value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while at < len(message):
        key = number()
        kind = key & 7
        if kind == 0:
            value = number()
        elif kind == 1:
            value, at = message[at:at + 8], at + 8
        else:
            size = number()
            value, at = message[at:at + size], at + size
        fields.setdefault(key >> 3, []).append(value)
    return fields


def command(name, *fields):
    """A command of Flight SQL."""
    return encode((1, SQL + name), (2, encode(*fields)))


def packed(message):
    """The fields of the message that an `Any` holds."""
    return decode(decode(message)[2][0])


class Cookies(flight.ClientMiddlewareFactory):
    """Keeps the cookies that a server sets."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def start_call(self, info):
        factory = self

        class Call(flight.ClientMiddleware):
            def received_headers(self, headers):
                factory.seen += headers.get("set-cookie", [])

        return Call()


class Caller:
    """A client that keeps no cookies, and sends the one that it is told to."""

    def __init__(self, cluster, cookie=None, middleware=()):
        self.client = flight.connect(f"grpc://{cluster.address}", middleware=list(middleware))
        headers = [(b"cookie", f"volley_session={cookie}".encode())] if cookie else []
        self.options = flight.FlightCallOptions(headers=headers, timeout=60)

    def info(self, message):
        return self.client.get_flight_info(flight.FlightDescriptor.for_command(message), self.options)

    def schema(self, message):
        return self.client.get_schema(flight.FlightDescriptor.for_command(message), self.options).schema

    def get(self, ticket):
        return self.client.do_get(ticket, self.options)

    def rows(self, message):
        info = self.info(message)
        assert len(info.endpoints) == 1 and not info.endpoints[0].locations
        table = self.get(info.endpoints[0].ticket).read_all()
        assert table.schema == info.schema
        return table

    def query(self, sql):
        return self.rows(command("CommandStatementQuery", (1, sql)))

    def act(self, name, body=b""):
        return [result.body.to_pybytes() for result in self.client.do_action(flight.Action(name, body), self.options)]

    def prepare(self, sql):
        (answer,) = self.act("CreatePreparedStatement", command("ActionCreatePreparedStatementRequest", (1, sql)))
        return packed(answer)

    def put(self, message, schema, batches, end=True):
        """What the server answers to rows."""
        writer, reader = self.client.do_put(flight.FlightDescriptor.for_command(message), schema, self.options)
        for batch in batches:
            writer.write_batch(batch)
        if end:
            writer.done_writing()
        answer = reader.read()
        writer.close()
        return decode(answer.to_pybytes()) if answer is not None else None

    def ingest(self, table, rows, missing=1, existing=1, **more):
        fields = [(1, encode((1, missing), (2, existing))), (2, table), *[(int(number[1:]), value) for number, value in more.items()]]
        answer = self.put(command("CommandStatementIngest", *fields), rows.schema, rows.to_batches())
        return answer.get(1, [0])[0]


def refused(call, *arguments):
    """The error of a call that has to be refused."""
    with pytest.raises((flight.FlightError, pyarrow.ArrowException, OSError)) as error:
        result = call(*arguments)
        # Errors of streams come with their first message.
        if hasattr(result, "read_all"):
            result.read_all()
    return error.value
