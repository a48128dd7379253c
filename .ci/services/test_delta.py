"""Delta Lake tables that another program wrote are read, and those that Volley writes are read by the other program."""

import datetime
import decimal
import json
import shutil
import struct

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from conftest import Cluster, volley_sql, wait_until
from test_s3 import KEYS, store  # noqa: F401 (a fixture)

CUT = ["SET volley.fit = 'never'", "SET volley.min_bytes_per_partition = 1"]


def rows(printed):
    return [line.split(",") for line in printed.splitlines()[1:]]


def mixed(first, count):
    ids = list(range(first, first + count))
    utc = datetime.timezone.utc
    return pa.table({
        "id": pa.array(ids, pa.int64()),
        "small": pa.array([i % 100 for i in ids], pa.int8()),
        "k": pa.array([None if i % 7 == 0 else f"k {i % 7}" for i in ids], pa.string()),
        "f": pa.array([i / 4 for i in ids], pa.float32()),
        "amount": pa.array([decimal.Decimal(i) / 100 for i in ids], pa.decimal128(12, 2)),
        "day": pa.array([datetime.date(2024, 1, 1) + datetime.timedelta(days=i % 50) for i in ids], pa.date32()),
        "at": pa.array([datetime.datetime(2024, 1, 1, 0, 0, i % 60, i, tzinfo=utc) for i in ids], pa.timestamp("us", "UTC")),
        "blob": pa.array([bytes([i % 256]) for i in ids], pa.binary()),
        "yes": pa.array([i % 2 == 0 for i in ids], pa.bool_()),
        "list": pa.array([[i, i + 1] for i in ids], pa.list_(pa.int32())),
        "st": pa.array([{"x": i, "y": str(i)} for i in ids], pa.struct([("x", pa.int32()), ("y", pa.string())])),
    })


def test_a_table_of_another_program_is_read_at_each_version(cluster, tmp_path):
    place = str(tmp_path / "table")
    write_deltalake(place, mixed(0, 500), partition_by=["k", "day"])
    write_deltalake(place, mixed(500, 500), mode="append")
    table = DeltaTable(place)
    table.delete("id >= 900")
    table.create_checkpoint()
    write_deltalake(place, mixed(2000, 10), mode="append")
    aggregates = "count(*), sum(id), count(k), sum(amount), min(day), max(at), sum(st['x']), sum(list[2])"
    for version, expected_rows in [(0, 500), (1, 1000), (2, 900), (3, 910)]:
        frame = DeltaTable(place, version=version).to_pyarrow_table()
        assert frame.num_rows == expected_rows
        expected = [
            str(expected_rows), str(sum(frame["id"].to_pylist())), str(expected_rows - frame["k"].null_count),
            str(sum(frame["amount"].to_pylist())), str(min(frame["day"].to_pylist())),
        ]
        answer = rows(cluster.sql(*CUT, f"SELECT {aggregates} FROM read_delta('{place}', version => {version})"))[0]
        assert answer[:5] == expected
        assert int(answer[6]) == int(answer[1]) and int(answer[7]) == int(answer[1]) + expected_rows
    # Of the partition and of the statistics.
    table = f"read_delta('{place}')"
    for condition in ["k = 'k 3'", "k IS NULL", "id = 777", "day = DATE '2024-01-08' AND id > 300", "at > TIMESTAMP '2024-01-01T00:00:59.000500Z'",
                      "amount > 8.5", "f < 3.25", "small = 99 AND yes = false"]:
        all_rows = rows(cluster.sql(*CUT, f"SELECT id FROM (SELECT * FROM {table} ORDER BY id LIMIT 100000) WHERE {condition} ORDER BY id"))
        assert rows(cluster.sql(*CUT, f"SELECT id FROM {table} WHERE {condition} ORDER BY id")) == all_rows
        assert all_rows, condition


def test_files_that_can_hold_no_row_are_not_read(cluster, tmp_path):
    place = str(tmp_path / "table")
    for first in range(0, 50, 10):
        write_deltalake(place, mixed(first, 10), mode="append")
    plan = cluster.sql(f"EXPLAIN SELECT * FROM read_delta('{place}') WHERE id = 33")
    assert plan.count(".parquet") == 1, plan


def test_another_program_reads_what_was_written(cluster, tmp_path):
    place = str(tmp_path / "table")
    cluster.sql(f"CREATE EXTERNAL TABLE made (id BIGINT NOT NULL, k VARCHAR, at TIMESTAMP, day DATE, amount DECIMAL(12, 2)) "
                f"STORED AS DELTA PARTITIONED BY (day, at) LOCATION '{place}'")
    insert = ("SELECT value, concat('s%/ ', value % 5), TIMESTAMP '2024-05-06T07:08:09.123456', DATE '2024-01-01' + CAST(value % 3 AS INT), "
              "CAST(value AS DECIMAL(12, 2)) / 4 FROM generate_series({}, {})")
    cluster.sql(*CUT, f"INSERT INTO made {insert.format(1, 90)}")
    cluster.sql(*CUT, "DELETE FROM made WHERE id > 60 AND k = 's%/ 1'", "UPDATE made SET k = NULL WHERE id < 5")
    table = DeltaTable(place)
    assert table.version() == 3
    assert [entry["operation"] for entry in table.history()] == ["UPDATE", "DELETE", "WRITE", "CREATE TABLE"]
    frame = table.to_pyarrow_table().sort_by("id")
    ids = [i for i in range(1, 91) if not (i > 60 and i % 5 == 1)]
    assert frame["id"].to_pylist() == ids
    assert frame["k"].to_pylist() == [None if i < 5 else f"s%/ {i % 5}" for i in ids]
    assert set(frame["at"].to_pylist()) == {datetime.datetime(2024, 5, 6, 7, 8, 9, 123456)}
    assert frame["day"].to_pylist() == [datetime.date(2024, 1, 1 + i % 3) for i in ids]
    statistics = table.get_add_actions(flatten=True)
    statistics = pa.table(statistics).to_pylist()
    assert sum(add["num_records"] for add in statistics) == len(ids)
    assert min(add["min.id"] for add in statistics) == 1 and max(add["max.id"] for add in statistics) == 90
    # What the other adds is seen at once, and so is its schema.
    table.delete("id = 1")
    assert rows(cluster.sql("SELECT count(*) FROM made")) == [[str(len(ids) - 1)]]
    write_deltalake(place, pa.table({"id": [1000], "day": [datetime.date(2024, 1, 1)], "new": ["x"]}), mode="append", schema_mode="merge")
    assert rows(cluster.sql("SELECT id, k, new FROM made WHERE id IN (90, 1000) ORDER BY id")) == [["90", "s%/ 0", ""], ["1000", "", "x"]]


def test_tables_that_ask_for_more_are_left_alone(cluster, tmp_path):
    place = str(tmp_path / "constrained")
    write_deltalake(place, mixed(0, 10))
    DeltaTable(place).alter.add_constraint({"positive": "id >= 0"})
    cluster.sql(f"CREATE EXTERNAL TABLE constrained STORED AS DELTA LOCATION '{place}'")
    ended = volley_sql(cluster, "INSERT INTO constrained (id) VALUES (-1)")
    assert ended.returncode != 0 and "delta.constraints.positive" in ended.stderr, ended.stderr
    place = str(tmp_path / "appendonly")
    write_deltalake(place, mixed(0, 10), configuration={"delta.appendOnly": "true"})
    cluster.sql(f"CREATE EXTERNAL TABLE appendonly STORED AS DELTA LOCATION '{place}'")
    ended = volley_sql(cluster, "DELETE FROM appendonly WHERE id = 1")
    assert ended.returncode != 0 and "delta.appendOnly" in ended.stderr, ended.stderr
    assert rows(cluster.sql("SELECT count(*) FROM appendonly")) == [["10"]]


Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


def inline_vector(deleted):
    """The rows in the form that the protocol has for vectors inside of the log: https://github.com/delta-io/delta/blob/master/PROTOCOL.md."""
    bitmap = struct.pack("<IIHHI", 12346, 1, 0, len(deleted) - 1, 16) + b"".join(struct.pack("<H", row) for row in deleted)
    vector = struct.pack("<IQI", 1681511377, 1, 0) + bitmap
    padded = vector + b"\0" * (-len(vector) % 4)
    text = ""
    for place in range(0, len(padded), 4):
        number = int.from_bytes(padded[place:place + 4], "big")
        text += "".join(Z85[number // 85**power % 85] for power in (4, 3, 2, 1, 0))
    return {"storageType": "i", "pathOrInlineDv": text, "sizeInBytes": len(vector), "cardinality": len(deleted)}


@pytest.fixture()
def with_deleted(tmp_path):
    """A table of two files of 100 rows, in one of which every tenth row is marked as deleted."""
    place = tmp_path / "vectors"
    for first in (0, 100):
        write_deltalake(str(place), mixed(first, 100), mode="append")
    log = place / "_delta_log"
    second = [json.loads(line) for line in (log / f"{1:020}.json").read_text().splitlines()]
    add = next(entry["add"] for entry in second if "add" in entry)
    deleted = list(range(0, 100, 10))
    marked = {**add, "deletionVector": inline_vector(deleted)}
    remove = {"path": add["path"], "deletionTimestamp": add["modificationTime"], "dataChange": True, "extendedFileMetadata": True,
              "partitionValues": {}, "size": add["size"]}
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}
    entries = [{"protocol": protocol}, {"remove": remove}, {"add": marked}]
    (log / f"{2:020}.json").write_text("\n".join(json.dumps(entry) for entry in entries))
    return str(place), [i for i in range(200) if not (i >= 100 and i % 10 == 0)]


@pytest.mark.parametrize("settings", [[], CUT])
def test_rows_that_are_marked_as_deleted_are_not_read(cluster, with_deleted, settings):
    place, ids = with_deleted
    table = f"read_delta('{place}')"
    assert rows(cluster.sql(*settings, f"SELECT count(*), sum(id) FROM {table}")) == [[str(len(ids)), str(sum(ids))]]
    assert [int(row[0]) for row in rows(cluster.sql(*settings, f"SELECT id FROM {table} ORDER BY id"))] == ids
    found = rows(cluster.sql(*settings, f"SELECT id FROM {table} WHERE id IN (99, 100, 101, 110) ORDER BY id"))
    assert found == [["99"], ["101"]]
    assert rows(cluster.sql(*settings, f"SELECT min(id), max(id) FROM {table} WHERE id >= 100")) == [["101", "199"]]


def test_rows_are_deleted_from_a_file_that_has_deleted_ones(cluster, with_deleted):
    place, ids = with_deleted
    cluster.sql(f"CREATE EXTERNAL TABLE vectors STORED AS DELTA LOCATION '{place}'")
    assert rows(cluster.sql(*CUT, "DELETE FROM vectors WHERE id >= 150"))[0] == [str(sum(i >= 150 for i in ids))]
    assert [int(row[0]) for row in rows(cluster.sql("SELECT id FROM vectors ORDER BY id"))] == [i for i in ids if i < 150]


def test_a_table_made_anew_is_another(cluster, tmp_path):
    place = str(tmp_path / "table")
    write_deltalake(place, mixed(0, 10))
    cluster.sql(f"CREATE EXTERNAL TABLE anew STORED AS DELTA LOCATION '{place}'")
    assert rows(cluster.sql("SELECT count(*) FROM anew")) == [["10"]]
    shutil.rmtree(place)
    write_deltalake(place, mixed(0, 25))
    assert rows(cluster.sql("SELECT count(*) FROM anew")) == [["25"]]


def test_large_decimals_are_found(cluster, tmp_path):
    place = str(tmp_path / "table")
    amount = decimal.Decimal("1234567890123456.78")
    write_deltalake(place, pa.table({"amount": pa.array([amount], pa.decimal128(18, 2))}))
    found = cluster.sql(f"SELECT count(*) FROM read_delta('{place}') WHERE amount = CAST('{amount}' AS DECIMAL(18, 2))")
    assert rows(found) == [["1"]]


def test_all_rows_are_deleted_and_no_file_is_left(cluster, tmp_path):
    place = tmp_path / "table"
    write_deltalake(str(place), mixed(0, 10))
    cluster.sql(f"CREATE EXTERNAL TABLE emptied STORED AS DELTA LOCATION '{place}'")
    assert rows(cluster.sql("DELETE FROM emptied")) == [["10"]]
    assert rows(cluster.sql("SELECT count(*) FROM emptied")) == [["0"]]
    assert len(list(place.rglob("*.parquet"))) == 1


def test_writers_meet(cluster, tmp_path):
    place = str(tmp_path / "table")
    write_deltalake(place, mixed(0, 100))
    cluster.sql(f"CREATE EXTERNAL TABLE met STORED AS DELTA LOCATION '{place}'")
    for first in range(1000, 1050, 10):
        write_deltalake(place, mixed(first, 10), mode="append")
        cluster.sql(f"INSERT INTO met (id) VALUES ({first + 5000})")
    assert rows(cluster.sql("SELECT count(*), count(DISTINCT id) FROM met")) == [["155", "155"]]
    assert DeltaTable(place).to_pyarrow_table().num_rows == 155


def test_another_program_reads_what_was_merged(cluster, tmp_path):
    place = str(tmp_path / "table")
    columns = pa.schema([("id", pa.int64()), ("k", pa.string()), ("n", pa.int32())])
    write_deltalake(place, pa.table({"id": range(100), "k": [f"k{i % 4}" for i in range(100)], "n": range(100)}, schema=columns), partition_by=["k"])
    cluster.sql(f"CREATE EXTERNAL TABLE merged STORED AS DELTA LOCATION '{place}'")
    source = "(SELECT value AS id FROM generate_series(90, 109)) AS s"
    told = cluster.sql(
        *CUT, f"MERGE INTO merged AS t USING {source} ON t.id = s.id WHEN MATCHED AND t.id % 2 = 0 THEN DELETE "
        "WHEN MATCHED THEN UPDATE SET n = CASE WHEN t.id > 95 THEN t.n ELSE -1.5 END, k = 'moved' WHEN NOT MATCHED THEN INSERT (id, k) VALUES (s.id, 'new')"
    )
    assert rows(told) == [["20"]]
    expected = {i: (f"k{i % 4}", i) for i in range(90)} | {i: ("moved", i if i > 95 else -1) for i in range(91, 100, 2)} | {i: ("new", None) for i in range(100, 110)}
    table = DeltaTable(place)
    assert table.history()[0]["operation"] == "MERGE"
    assert table.to_pyarrow_table().schema.field("n").type == pa.int32()
    read = table.to_pyarrow_table().sort_by("id").to_pylist()
    assert {row["id"]: (row["k"], row["n"]) for row in read} == expected and len(read) == len(expected)
    # Rows that are there already are not added, and no file is written anew for those that are.
    before = set(table.file_uris())
    adds = f"MERGE INTO merged AS t USING {source} ON t.id = s.id WHEN NOT MATCHED THEN INSERT VALUES (s.id, 'late', 0)"
    assert rows(cluster.sql(*CUT, adds)) == [["5"]]
    assert before < set(DeltaTable(place).file_uris())


def test_on_an_object_store(store, tmp_path):  # noqa: F811
    store.client.create_bucket(Bucket="lake")
    environment = {**KEYS, "AWS_ENDPOINT": store.endpoint, "AWS_ALLOW_HTTP": "true"}
    options = {**KEYS, "AWS_ENDPOINT_URL": store.endpoint, "AWS_ALLOW_HTTP": "true"}
    cluster = Cluster(tmp_path, environment)
    try:
        cluster.scheduler()
        cluster.executor(1)
        cluster.executor(2)
        wait_until("two executors", lambda: cluster.executors() == 2)
        write_deltalake("s3://lake/table", mixed(0, 300), partition_by=["k"], storage_options=options)
        cluster.sql("CREATE EXTERNAL TABLE far STORED AS DELTA LOCATION 's3://lake/table'")
        cluster.sql(*CUT, "INSERT INTO far (id, k) SELECT value, concat('k ', value % 7) FROM generate_series(1000, 1099)", "DELETE FROM far WHERE id < 50")
        assert rows(cluster.sql(*CUT, "SELECT count(*), count(DISTINCT id), min(id) FROM far")) == [["350", "350", "50"]]
        frame = DeltaTable("s3://lake/table", storage_options=options).to_pyarrow_table()
        assert sorted(frame["id"].to_pylist()) == list(range(50, 300)) + list(range(1000, 1100))
        cluster.sql(*CUT, "INSERT INTO far (id, k) VALUES (7000, 'Zürich/100% #1')")
        assert rows(cluster.sql("SELECT id FROM far WHERE k = 'Zürich/100% #1'")) == [["7000"]]
        frame = DeltaTable("s3://lake/table", storage_options=options).to_pyarrow_table()
        assert [row["k"] for row in frame.to_pylist() if row["id"] == 7000] == ["Zürich/100% #1"]
        assert store.uploads("lake") == []
        assert [key for key in store.objects("lake") if "staging" in key] == []
    finally:
        cluster.stop()
