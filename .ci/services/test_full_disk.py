"""An executor whose work directory is on a full disk: one error that names the place, nothing left, and the next query works."""

import subprocess

import pytest

from conftest import VOLLEY, Cluster, free_port, wait_until

# A window over all rows has to sort them, and no limit lets the sort keep only some; shuffled numbers hardly compress.
SORT = "SELECT max(n) FROM (SELECT row_number() OVER (ORDER BY value * 7919 % 4000037) AS n FROM generate_series(1, 20000000))"


@pytest.fixture()
def small_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_is_named_and_nothing_is_left(tmp_path, small_disk):
    cluster = Cluster(tmp_path)
    cluster.scheduler()
    wait_until("a scheduler", lambda: cluster.get("/healthz") == 200)
    work = small_disk / "work"
    executor = cluster.start(
        "executor", "executor", "--scheduler", f"http://{cluster.address}", "--listen", f"127.0.0.1:{free_port()}",
        "--slots", "1", "--memory", "64MiB", "--work-dir", work,
    )
    try:
        wait_until("one executor", lambda: cluster.executors() == 1)
        sql = [VOLLEY, "sql", "--cluster", f"http://{cluster.address}", "--format", "csv", "-c"]
        failed = subprocess.run([*sql, SORT], capture_output=True, text=True, timeout=120)
        assert failed.returncode == 1, failed
        assert "full" in failed.stderr and str(work) in failed.stderr and "ran out of resources" in failed.stderr, failed.stderr
        left = lambda: [path for path in work.rglob("*") if path.is_file() and path.name not in ("lock", "executors.lock")]
        wait_until("an empty work directory", lambda: left() == [])
        answer = subprocess.run([*sql, "SELECT count(*) AS n FROM tpch.sf0_01.nation"], capture_output=True, text=True, timeout=60)
        assert (answer.returncode, answer.stdout) == (0, "n\n25\n"), answer
        assert executor.poll() is None
    finally:
        cluster.stop()
    assert [path.name for path in work.iterdir()] == ["executors.lock"]
