"""Azure's store, as its own emulator has it, and Google's, whose client speaks the dialect of S3 that Google calls its XML API: an S3 server behind a
proxy that says the headers in the other way."""

import http.client
import http.server
import json
import os
import pathlib
import shutil
import subprocess
import threading
import urllib.parse

import pytest

from conftest import Cluster, free_port, volley_sql, wait_until
from test_s3 import KEYS, store  # noqa: F401 (a fixture)

# The emulator's well-known account.
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
CUT = ["SET volley.fit = 'never'", "SET volley.min_bytes_per_partition = 1"]
TOOLS = pathlib.Path(os.environ.get("VOLLEY_CI_NPM", pathlib.Path.home() / ".cache" / "volley-ci-npm"))


@pytest.fixture(scope="module")
def azure(tmp_path_factory):
    """The emulator with an empty container, and the environment that leads to it."""
    folder, port = tmp_path_factory.mktemp("azure"), free_port()
    program = TOOLS / "node_modules" / ".bin" / "azurite-blob"
    assert program.exists(), f"no emulator at {program}: npm install --prefix {TOOLS} azurite"
    log = open(folder / "server.log", "wb")
    server = subprocess.Popen(
        [shutil.which("node"), program.resolve(), "--location", folder, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--skipApiVersionCheck", "--silent"],
        stdout=log, stderr=log,
    )
    environment = {"AZURE_STORAGE_USE_EMULATOR": "true", "AZURITE_BLOB_STORAGE_URL": f"http://127.0.0.1:{port}",
                   "AZURE_STORAGE_ACCOUNT_NAME": "devstoreaccount1", "AZURE_STORAGE_ACCOUNT_KEY": AZURE_KEY, "AZURE_ALLOW_HTTP": "true"}
    yield environment, port
    server.terminate()
    server.wait()


def make_container(port, name):
    """A container is made by a signed request, which the standard library has all for."""
    import base64
    import datetime
    import hashlib
    import hmac
    import urllib.request

    date = datetime.datetime.now(datetime.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
    version = "2021-08-06"
    text = f"PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:{version}\n/devstoreaccount1/devstoreaccount1/{name}\nrestype:container"
    signature = base64.b64encode(hmac.new(base64.b64decode(AZURE_KEY), text.encode(), hashlib.sha256).digest()).decode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/devstoreaccount1/{name}?restype=container", method="PUT",
        headers={"x-ms-date": date, "x-ms-version": version, "Authorization": f"SharedKey devstoreaccount1:{signature}", "Content-Length": "0"},
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        return answer.status == 201


def answers(action):
    try:
        return action()
    except OSError:
        return False


def exercise(cluster, url):
    """Every format, files in partitions, tables of the cluster's own and of Delta Lake."""
    rows = "SELECT value AS a, value % 3 AS k, concat('s', value) AS s FROM generate_series(1, 900)"
    for format in ("parquet", "csv", "json", "avro", "arrow"):
        cluster.sql(*CUT, f"COPY ({rows}) TO '{url}/{format}/' STORED AS {format}")
        answer = volley_sql(cluster, *CUT, f"SELECT count(*), sum(a), max(s) FROM read_{format}('{url}/{format}/')")
        assert answer.returncode == 0, (format, answer.stderr)
        assert answer.stdout.splitlines()[1] == "900,405450,s99", format
    cluster.sql(*CUT, f"COPY ({rows}) TO '{url}/parts/' STORED AS PARQUET PARTITIONED BY (k)",
                f"CREATE EXTERNAL TABLE parts (a BIGINT, s VARCHAR, k BIGINT) STORED AS PARQUET PARTITIONED BY (k) LOCATION '{url}/parts/'")
    assert cluster.sql(*CUT, "SELECT count(*), min(a) FROM parts WHERE k = 2").splitlines()[1] == "300,2"
    cluster.sql(*CUT, f"CREATE TABLE own AS {rows}", "INSERT INTO own VALUES (0, 0, 'zero')", "DELETE FROM own WHERE k = 1")
    assert cluster.sql(*CUT, "SELECT count(*), sum(a) FROM own").splitlines()[1] == "601,270600"
    cluster.sql(*CUT, f"CREATE EXTERNAL TABLE lake (a BIGINT, k BIGINT) STORED AS DELTA PARTITIONED BY (k) LOCATION '{url}/lake'",
                f"INSERT INTO lake SELECT a, k FROM ({rows})", "UPDATE lake SET a = 0 WHERE k = 0")
    assert cluster.sql(*CUT, "SELECT count(*), sum(a) FROM lake").splitlines()[1] == "900,270000"


@pytest.fixture()
def started(tmp_path):
    clusters = []

    def start(environment, warehouse):
        cluster = Cluster(tmp_path, environment, warehouse)
        clusters.append(cluster)
        cluster.scheduler()
        cluster.executor(1)
        cluster.executor(2)
        wait_until("two executors", lambda: cluster.executors() == 2)
        return cluster

    yield start
    for cluster in clusters:
        cluster.stop()


def test_azure(azure, started):
    environment, port = azure
    wait_until("the emulator", lambda: answers(lambda: make_container(port, "files")))
    exercise(started(environment, "az://files/warehouse"), "az://files")


class GoogleProxy(http.server.BaseHTTPRequestHandler):
    """Requests in Google's headers to the S3 server, and its answers back: https://cloud.google.com/storage/docs/xml-api/reference-headers."""

    protocol_version = "HTTP/1.1"
    server_address = ("127.0.0.1", 0)
    requests = []

    def forward(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "authorization", "connection")}
        # The server asks who it is, and not for a proof.
        headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={KEYS['AWS_ACCESS_KEY_ID']}/20240101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
        # Google's names have encoded slashes, which this S3 server takes for part of the name.
        plain = lambda path: urllib.parse.quote(urllib.parse.unquote(path))
        place, _, query = self.path.partition("?")
        path = f"{plain(place)}?{query}" if query else plain(place)
        if source := headers.pop("x-goog-copy-source", None):
            headers["x-amz-copy-source"] = plain(source)
        if headers.pop("x-goog-if-generation-match", None) == "0":
            headers["If-None-Match"] = "*"
        self.requests.append((self.command, self.path))
        connection = http.client.HTTPConnection(*self.server_address)
        connection.request(self.command, path, body=body, headers=headers)
        answer = connection.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection", "date", "server"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length", "0") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward

    def log_message(self, *_):
        pass


@pytest.fixture()
def google(store):  # noqa: F811
    """A bucket, and the environment that leads to it."""
    store.client.create_bucket(Bucket="google-files")
    GoogleProxy.server_address = ("127.0.0.1", urllib.parse.urlparse(store.endpoint).port)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), GoogleProxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    account = {"gcs_base_url": f"http://127.0.0.1:{server.server_port}", "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
    yield {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account), "GOOGLE_ALLOW_HTTP": "true"}
    server.shutdown()


def test_google(google, started):
    exercise(started(google, "gs://google-files/warehouse"), "gs://google-files")
    assert any(method == "POST" and path.endswith("?uploads") or "uploads=" in path for method, path in GoogleProxy.requests), "uploads in parts"
