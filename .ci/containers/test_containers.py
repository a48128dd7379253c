"""The image and docker-compose.yml as people use them: a cluster in containers, one of which is killed in the middle of TPC-H."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import time
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = pathlib.Path(os.environ["VOLLEY_PROGRAMS"]).resolve()
PROJECT = "volley-ci"
IMAGE, BENCH_IMAGE = "volley-ci", "volley-ci-bench"
START_SECONDS = 60
#: Of `stop_grace_period`.
GRACE_SECONDS = 45
SCALE = "0.1"


def output(*command, **options):
    """What a command prints; an error is an assertion that fails."""
    ended = subprocess.run(command, capture_output=True, text=True, timeout=options.pop("timeout", 120), **options)
    assert ended.returncode == 0, f"{command}: {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout.strip()


def docker(*arguments):
    return output("docker", *arguments, env={**os.environ, "DOCKER_BUILDKIT": "0"})


def inspect(what, value):
    return docker("inspect", "--format", value, what)


def comes(is_so, seconds):
    """Whether a state comes within a time."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def wait_until(what, is_so):
    assert comes(is_so, START_SECONDS), f"{what} did not come within {START_SECONDS} s"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Cluster:
    """What docker-compose.yml starts."""

    def __init__(self):
        self.port, self.http = free_port(), free_port()
        ports = {"VOLLEY_PORT": str(self.port), "VOLLEY_HTTP_PORT": str(self.http)}
        self.environment = {**os.environ, **ports, "VOLLEY_IMAGE": IMAGE, "VOLLEY_BENCH_IMAGE": BENCH_IMAGE}

    def command(self, *arguments):
        return ["docker-compose", "--project-name", PROJECT, "--file", str(ROOT / "docker-compose.yml"), *arguments]

    def compose(self, *arguments, timeout=120):
        return output(*self.command(*arguments), env=self.environment, cwd=ROOT, timeout=timeout)

    def sql(self, *statements):
        commands = [part for statement in statements for part in ("-c", statement)]
        return self.compose("run", "--rm", "-T", "sql", "--format", "csv", *commands)

    def containers(self, service):
        return self.compose("ps", "-q", service).split()

    def healthy(self, service):
        return [name for name in self.containers(service) if inspect(name, "{{.State.Status}} {{.State.Health.Status}}") == "running healthy"]

    def told(self, *command):
        """What a command of `volley` on this host says of the cluster."""
        return json.loads(output(PROGRAMS / "volley", *command, "--cluster", f"http://127.0.0.1:{self.port}", "--format", "json"))

    def executors(self):
        """Executors that take tasks, as the scheduler knows them."""
        return [executor for executor in self.told("executors") if executor["state"] == "live"]

    def busy(self):
        """The addresses of those that have tasks."""
        return [executor["address"] for executor in self.told("executors") if executor["busy_slots"]]

    def readiness(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/readyz", timeout=5) as answer:
            return answer.read().decode().strip()


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """Both images, of programs that were built outside."""
    context = tmp_path_factory.mktemp("context")
    programs = context / "dist"
    programs.mkdir()
    for program in ("volley", "volley-bench"):
        output("strip", "-o", programs / program, PROGRAMS / program)
    for image, target in ((IMAGE, "volley"), (BENCH_IMAGE, "bench")):
        builder = f"BUILDER={os.environ['VOLLEY_BASE']}"
        docker("build", "--tag", image, "--target", target, "--build-arg", builder, "--file", ROOT / "Dockerfile", context)
    yield programs
    docker("rmi", IMAGE, BENCH_IMAGE)


@pytest.fixture(scope="module")
def cluster(images):
    cluster = Cluster()
    try:
        cluster.compose("up", "-d")
        wait_until("three healthy executors", lambda: len(cluster.healthy("executor")) == 3)
        wait_until("three executors in the cluster", lambda: len(cluster.executors()) == 3)
        yield cluster
    finally:
        with contextlib.suppress(AssertionError):
            print(cluster.compose("logs", "--no-color", "--tail=30"))
        cluster.compose("down", "--volumes")


def test_the_context_is_all_that_cargo_needs(tmp_path):
    """The stage that compiles can't run without a registry; that what it compiles is there can be told."""
    listing = tmp_path / "Dockerfile"
    listing.write_text("FROM scratch\nCOPY . /volley\n")
    image = docker("build", "--quiet", "--file", listing, ROOT)
    container = docker("create", image, "none")
    docker("cp", f"{container}:/volley", tmp_path / "context")
    docker("rm", container)
    docker("rmi", image)
    metadata = json.loads(output("cargo", "metadata", "--locked", "--offline", "--format-version=1", cwd=tmp_path / "context"))
    ours = [package for package in metadata["packages"] if package["source"] is None]
    sources = [pathlib.Path(target["src_path"]) for package in ours for target in package["targets"]]
    assert len(ours) >= 6 and all(source.exists() for source in sources)
    programs = {target["name"] for package in ours for target in package["targets"] if "bin" in target["kind"]}
    assert {"volley", "volley-bench"} <= programs
    assert (tmp_path / "context/benchmarks/queries/tpch/q22.sql").exists()
    assert not (tmp_path / "context/.git").exists()


def test_an_image_is_small_and_runs_without_root(images, capsys):
    assert inspect(IMAGE, "{{.Config.User}}") == "10001:10001"
    assert json.loads(inspect(IMAGE, "{{json .Config.Healthcheck.Test}}")) == ["CMD", "volley", "health"]
    assert "curl" not in docker("run", "--rm", "--entrypoint", "ls", IMAGE, "/usr/bin").split()
    user = docker("run", "--rm", "--read-only", "--entrypoint", "id", IMAGE, "-u")
    assert user == "10001"
    assert docker("run", "--rm", "--read-only", IMAGE, "--version").startswith("volley ")
    labels = json.loads(inspect(IMAGE, "{{json .Config.Labels}}"))
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    sizes = {image: int(inspect(image, "{{.Size}}")) for image in (IMAGE, BENCH_IMAGE)}
    binaries = {program.name: program.stat().st_size for program in images.iterdir()}
    with capsys.disabled():
        print(*(f"{name}: {size / 1e6:.0f} MB" for name, size in {**binaries, **sizes}.items()), sep=", ")
    assert max(sizes.values()) < 450e6


def test_health_is_told_by_exit_codes(cluster):
    for service in ("scheduler", "executor"):
        container = cluster.healthy(service)[0]
        assert docker("exec", container, "volley", "health") == ""
        # Each of the programs' own addresses is asked, without a word of where that is.
        told = json.loads(inspect(container, "{{json .State.Health.Log}}"))[-1]
        assert (told["ExitCode"], service in told["Output"]) == (0, True)
    nobody = subprocess.run(["docker", "run", "--rm", IMAGE, "health"], capture_output=True, text=True, timeout=60)
    assert (nobody.returncode, nobody.stdout) == (1, "")
    assert "no scheduler at http://127.0.0.1:8080" in nobody.stderr and "no executor at http://127.0.0.1:50061" in nobody.stderr


def test_limits_of_a_container_are_an_executors(cluster):
    assert cluster.readiness() == "ready: 3 executors, 3 slots"
    for executor in cluster.executors():
        assert executor["slots"] == 1
        assert 0.69 * 2**31 < executor["memory_bytes"] <= 0.7 * 2**31


def test_statements_run_in_a_container_of_their_own(cluster):
    assert cluster.sql("SELECT 1 AS one") == "one\n1"
    # Written by executors, published by the scheduler, and there when this one was away.
    cluster.sql("CREATE TABLE kept AS SELECT l_orderkey FROM tpch.sf0_01.lineitem", "COPY (SELECT * FROM kept) TO '/data/kept/' STORED AS PARQUET")
    cluster.compose("restart", "scheduler")
    wait_until("a healthy scheduler", lambda: len(cluster.healthy("scheduler")) == 1)
    wait_until("three executors in the cluster", lambda: len(cluster.executors()) == 3)
    assert cluster.sql("SELECT count(*) AS n FROM kept") == "n\n60175"
    assert cluster.sql("SELECT count(*) AS n FROM read_parquet('/data/kept/')") == "n\n60175"


def test_tpch_is_right_though_one_of_three_dies(cluster, capsys):
    cluster.compose("run", "--rm", "-T", "bench", "gen", "tpch", "--scale", SCALE, "--out", "/data/tpch", timeout=300)
    run = ["run", "--suite", "tpch", "--scale", SCALE, "--data", "/data/tpch", "--cluster", "http://scheduler:50050", "--verify"]
    # Small plans would stay whole.
    command = cluster.command("run", "--rm", "-T", "bench", *run, "--set", "volley.fit=never")
    with subprocess.Popen(command, env=cluster.environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as bench:
        try:
            lines = until(bench.stdout, "q6 ")
            died = kill_a_busy_one(cluster)
            rest, _ = bench.communicate(timeout=300)
        finally:
            bench.kill()
    answers = lines + rest
    with capsys.disabled():
        print(f"\n{answers}{died} was killed")
    assert bench.returncode == 0, answers
    assert "22 of 22 right" in answers
    assert died not in {executor["address"] for executor in cluster.executors()}
    assert len(cluster.executors()) == 2
    stages = (stage for job in reversed(cluster.told("jobs")) for stage in cluster.told("job", job["job"])["stages"])
    assert any(stage["attempts"] > stage["tasks"] for stage in stages), "what it was at was run by another one"


def until(lines, start):
    """What a process prints up to a line."""
    read = ""
    for line in lines:
        read += line
        if line.startswith(start):
            return read
    raise AssertionError(f"no line began with '{start}':\n{read}")


def kill_a_busy_one(cluster):
    """Ends the container of an executor that has tasks; gives its address."""
    for address in [executor["address"] for executor in cluster.executors()] * 3:
        # Its host name is the beginning of the container's id.
        container = address.split(":")[0]
        docker("pause", container)
        # Frozen, it ends neither what it was at nor what it is given now.
        if comes(lambda: address in cluster.busy(), seconds=3):
            docker("kill", container)
            return address
        docker("unpause", container)
    raise AssertionError("no executor had tasks")


def test_executors_come_with_scale(cluster):
    cluster.compose("up", "-d", "--scale", "executor=4")
    wait_until("four healthy executors", lambda: len(cluster.healthy("executor")) == 4)
    wait_until("four executors in the cluster", lambda: len(cluster.executors()) == 4)
    assert cluster.sql("SELECT count(*) AS n FROM tpch.sf0_01.orders") == "n\n15000"
    # `run` started nothing and ended nothing.
    assert len(cluster.executors()) == 4


def test_an_executor_that_is_told_to_leave_ends_well(cluster):
    leaving = cluster.healthy("executor")[0]
    assert inspect(leaving, "{{.Config.StopTimeout}}") == str(GRACE_SECONDS)
    began = time.monotonic()
    docker("stop", leaving)
    assert time.monotonic() - began < GRACE_SECONDS
    assert inspect(leaving, "{{.State.ExitCode}}") == "0"
    assert f"{leaving[:12]}:50061" not in {executor["address"] for executor in cluster.executors()}


def test_nothing_is_left(cluster):
    cluster.compose("down", "--volumes")
    mine = f"label=com.docker.compose.project={PROJECT}"
    assert docker("ps", "--all", "--quiet", "--filter", mine) == ""
    assert docker("network", "ls", "--quiet", "--filter", mine) == ""
    # Those that have no name bear no label either.
    assert docker("volume", "ls", "--quiet") == ""
