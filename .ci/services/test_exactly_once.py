"""Writes happen once, wherever a process dies: at each fail point, on local files and an S3 server, in directories, tables and Delta Lake tables."""

import pathlib

import pyarrow
import pytest
from deltalake import write_deltalake

from conftest import Cluster, volley_sql, wait_until
from test_s3 import KEYS, store  # noqa: F401 (a fixture)

# In many parts, so that every executor writes some.
ROWS = 15000
SERIES = "SELECT o_orderkey AS a, o_comment AS s FROM tpch.sf0_01.orders"
CUT = ["SET volley.fit = 'never'", "SET volley.min_bytes_per_partition = 1"]
EXECUTOR_POINTS = ["part-written", "task-written"]
SCHEDULER_POINTS = ["task-sealed", "list-journaled", "one-published", "all-published", "log-entry-written", "cleaned"]


class Place:
    """Where a write goes, and how it is said and looked at."""

    def __init__(self, kind, cluster, store, bucket, folder):
        self.kind = kind
        self.on_s3 = kind.startswith("s3")
        self.is_table = kind.endswith("table")
        self.is_delta = kind.endswith("delta")
        self.cluster, self.store, self.bucket, self.folder = cluster, store, bucket, folder
        self.url = f"s3://{bucket}/files/" if self.on_s3 else f"{folder}/files/"
        if self.is_delta:
            options = {**KEYS, "AWS_ENDPOINT_URL": store.endpoint, "AWS_ALLOW_HTTP": "true"} if self.on_s3 else None
            columns = pyarrow.schema([("a", pyarrow.int64()), ("s", pyarrow.string())])
            write_deltalake(self.url, columns.empty_table(), storage_options=options)

    def write(self):
        if self.is_delta:
            return f"INSERT INTO d {SERIES}"
        return f"CREATE TABLE t AS {SERIES}" if self.is_table else f"COPY ({SERIES}) TO '{self.url}' STORED AS PARQUET"

    def prepare(self):
        if self.is_delta:
            self.cluster.sql(f"CREATE EXTERNAL TABLE d STORED AS DELTA LOCATION '{self.url}'")

    def count(self):
        """Rows and different rows that a reader sees; none where there is nothing."""
        source = "t" if self.is_table else "d" if self.is_delta else f"read_parquet('{self.url}')"
        ended = volley_sql(self.cluster, f"SELECT count(*) AS n, count(DISTINCT a) AS d FROM {source}")
        if ended.returncode != 0:
            assert "not found" in ended.stderr or "No files found" in ended.stderr, ended.stderr
            return (0, 0)
        return tuple(int(cell) for cell in ended.stdout.splitlines()[1].split(","))

    def left(self):
        """What no reader ever sees."""
        if self.on_s3:
            objects = self.store.objects(self.bucket)
            hidden = [key for key in objects if ".upload" in key or ".live" in key or "staging" in key]
            return self.store.uploads(self.bucket) + hidden
        files = [path for path in pathlib.Path(self.folder).rglob("*") if path.is_file()]
        return [path for path in files if "staging" in str(path) or path.name in (".live", ".made")]

    def wait_until_nothing_is_left(self):
        try:
            wait_until("nothing left", lambda: self.left() == [])
        except TimeoutError as late:
            raise TimeoutError(f"{late}: {self.left()}") from late

    def data_files(self):
        if self.on_s3:
            return [key for key in self.store.objects(self.bucket) if key.endswith(".parquet")]
        return [str(path) for path in pathlib.Path(self.folder).rglob("*.parquet")]


@pytest.fixture(params=["local-files", "local-table", "local-delta", "s3-files", "s3-table", "s3-delta"])
def place(request, store, tmp_path):  # noqa: F811
    bucket = f"once-{abs(hash(request.node.name)) % 10**12}"
    store.client.create_bucket(Bucket=bucket)
    environment = {**KEYS, "AWS_ENDPOINT": store.endpoint, "AWS_ALLOW_HTTP": "true"}
    folder = tmp_path / "place"
    folder.mkdir()
    warehouse = f"s3://{bucket}/warehouse" if request.param.startswith("s3") else str(folder / "warehouse")
    cluster = Cluster(tmp_path, environment, warehouse)
    yield Place(request.param, cluster, store, bucket, folder)
    cluster.stop()


@pytest.mark.parametrize("point", EXECUTOR_POINTS)
def test_an_executor_dies(place, point):
    cluster = place.cluster
    # Nobody overtakes the one that is to die.
    cluster.environment["VOLLEY_STRAGGLER_AFTER"] = "0s"
    cluster.scheduler()
    doomed = cluster.executor(1, fail_point=point)
    cluster.executor(2)
    wait_until("two executors", lambda: cluster.executors() == 2)
    place.prepare()
    ended = volley_sql(cluster, *CUT, place.write())
    assert ended.returncode == 0, ended.stderr
    assert doomed.wait(timeout=30) != 0, "it came to its fail point"
    assert place.count() == (ROWS, ROWS)
    place.wait_until_nothing_is_left()


def raced(cluster):
    """Second attempts of all jobs, beside slow ones."""
    return sum(stage["raced"] for job in cluster.jobs() for stage in job["stages"])


@pytest.mark.parametrize("point", EXECUTOR_POINTS)
def test_an_executor_is_slow(place, point):
    cluster = place.cluster
    cluster.environment["VOLLEY_STRAGGLER_AFTER"] = "200ms"
    cluster.scheduler()
    cluster.executor(1, fail_point=f"{point}:6s")
    cluster.executor(2)
    wait_until("two executors", lambda: cluster.executors() == 2)
    place.prepare()
    ended = volley_sql(cluster, *CUT, place.write())
    assert ended.returncode == 0, ended.stderr
    assert raced(cluster) == 1
    assert place.count() == (ROWS, ROWS)
    # The slow attempt wakes up when all is done: nothing of it is seen, and nothing of it stays.
    wait_until("the slow attempt to end", lambda: cluster.busy_slots() == 0)
    assert place.count() == (ROWS, ROWS)
    place.wait_until_nothing_is_left()


@pytest.mark.parametrize("is_raced", [False, True], ids=["", "beside-a-slow-executor"])
@pytest.mark.parametrize("point", SCHEDULER_POINTS)
def test_the_scheduler_dies(place, point, is_raced):
    cluster = place.cluster
    if point == "log-entry-written" and not place.is_delta:
        pytest.skip("there is no log")
    if is_raced and place.kind not in ("local-table", "s3-files", "s3-delta"):
        pytest.skip("one place of each kind shows it")
    cluster.environment["VOLLEY_STRAGGLER_AFTER"] = "200ms"
    doomed = cluster.scheduler(fail_point=point)
    cluster.executor(1, fail_point="part-written:6s" if is_raced else None)
    cluster.executor(2)
    wait_until("two executors", lambda: cluster.executors() == 2)
    place.prepare()
    assert volley_sql(cluster, *CUT, place.write()).returncode != 0
    assert doomed.wait(timeout=30) != 0
    cluster.scheduler()
    wait_until("two executors", lambda: cluster.executors() == 2)
    is_decided = point != "task-sealed"
    expected = (ROWS, ROWS) if is_decided else (0, 0)
    assert place.count() == expected
    place.wait_until_nothing_is_left()
    if not is_decided:
        assert place.data_files() == []
        ended = volley_sql(cluster, *CUT, place.write())
        assert ended.returncode == 0, ended.stderr
        assert place.count() == (ROWS, ROWS)
