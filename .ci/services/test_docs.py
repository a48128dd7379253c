"""Every command that README.md and docs/*.md show runs here, as it stands there but for SUBSTITUTIONS and DEFAULTS.

Blocks of a document build on each other: its processes, files and tables stay until its last block has run, and a block that is chosen
alone runs those before it first. A `text` block right below commands is what they print.
"""

import collections
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
import urllib.request

import pytest
import yaml

import conftest
from conftest import VOLLEY, Cluster, end, free_port, wait_until
from etcd import Etcd
from test_shell import Terminal

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
BENCH = pathlib.Path(os.environ.get("VOLLEY_BENCH_BIN", VOLLEY.parent / "volley-bench"))
EXAMPLES = VOLLEY.parent / "examples"
SECONDS = 120

# What differs from the text of a document. {folder} is a temporary directory, one for each document.
SUBSTITUTIONS = [
    (r"cargo run --profile release-dev -p volley-client -- ", "volley "),
    (r"cargo run --profile release-dev -p volley-client --example (\w+)(?: --)?", rf"{EXAMPLES}/\1"),
    (r"(?:(?:\./)?target/release(?:-dev)?|/usr/local/bin)/volley", "volley"),
    (r"(?<![\w.}])/(var/tmp|var/lib|var/cache|mnt/nvme)/", r"{folder}/\1/"),
    (r"(?<![\w.}])/data/", "{folder}/data/"),
    (r"s3://bucket/", "{folder}/"),
    (r"\bsf1\b", "sf0_01"),
    (r"--scale 1\b", "--scale 0.01"),
]
# Addresses become free ports of 127.0.0.1, the same one for the same address; etcd's members are three that run here.
ADDRESS = re.compile(r"\b(10\.0\.0\.\d+|127\.0\.0\.1|scheduler|node7):(\d+)\b|(?<=-p )(5432)\b|(?<=port=)(5432)\b")
# Flags whose default is a fixed port or place are given where a document leaves them out; None is a free port of its own.
DEFAULTS = {
    "scheduler": {"--listen": "127.0.0.1:50050", "--http": None},
    "executor": {"--scheduler": "http://127.0.0.1:50050", "--listen": "127.0.0.1:50061", "--work-dir": "/var/tmp/volley"},
    **{command: {"--cluster": "http://127.0.0.1:50050"} for command in ("jobs", "job", "cancel", "executors")},
}
# What does not run here: a command or the text of a block, why, and where it does.
Elsewhere = collections.namedtuple("Elsewhere", "pattern why where")
ELSEWHERE = [
    Elsewhere(r"^cargo (test|build)\b", "compiles for minutes", ".ci/run"),
    Elsewhere(r"^(docker|mkdir dist && strip)\b", "needs a container engine", ".ci/containers/run"),
    Elsewhere(r"^benchmarks/flamegraph\b", "needs perf and inferno; run by hand", "benchmarks/flamegraph"),
    Elsewhere(r"^ada:", "hashes are left out; whole files of users are tested", ".ci/services/test_flight_login.py"),
    *([] if BENCH.exists() else [Elsewhere(r"^volley-bench\b", "volley-bench is not beside volley", ".ci/run")]),
    *([] if (EXAMPLES / "embedded").exists() else [Elsewhere(r"--example\b", "examples are not beside volley", ".ci/run")]),
]
# Diagrams, by their first line.
PICTURES = [" client ──Flight SQL──> scheduler ──one stream each──> executor ──Flight (DoExchange)──> executor"]

Block = collections.namedtuple("Block", "document line language text follows")
COUNTS = collections.Counter()


def blocks_of(document):
    """The fenced blocks of a document; `follows` says that nothing but blank lines lies between one and the block above."""
    blocks, fence, between = [], None, True
    for number, line in enumerate(document.read_text().splitlines(), 1):
        if fence is None and line.startswith("```"):
            fence, language, lines = number, line[3:].strip(), []
        elif fence is not None and line.startswith("```"):
            blocks.append(Block(document, fence, language, "\n".join(lines), not between))
            fence, between = None, False
        elif fence is not None:
            lines.append(line)
        else:
            between |= bool(line.strip())
    assert fence is None, f"{document}:{fence} is not closed"
    return blocks


BLOCKS = [block for document in DOCUMENTS for block in blocks_of(document)]


def name_of(block):
    return f"{block.document.relative_to(ROOT)}:{block.line}:{block.language or 'none'}"


def elsewhere(text):
    return next((entry for entry in ELSEWHERE if re.search(entry.pattern, text)), None)


def commands_of(text):
    """Commands of a shell: lines, and more of them where quotes are open or a backslash ends one."""
    commands, open_lines = [], []
    for line in text.splitlines():
        open_lines.append(line)
        command = "\n".join(open_lines)
        try:
            words = shlex.split(command, comments=True)
        except ValueError:
            continue
        if not line.endswith("\\"):
            open_lines = []
            commands += [command] if words else []
    assert not open_lines, f"a command does not end: {open_lines}"
    return commands


def statements_of(text):
    """Statements of SQL, without the semicolons between them."""
    pieces = re.findall(r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|;|[^'\";-]+|-", text)
    statements = [""]
    for piece in pieces:
        if piece == ";":
            statements.append("")
        elif not piece.startswith("--"):
            statements[-1] += piece
    return [statement.strip() for statement in statements if statement.strip()]


def steady(line):
    """A line without what differs from run to run: times, sizes, jobs, and how wide columns are."""
    line = re.sub(r"\[[^]]*(time|cpu|compute)=.*", "[figures]", line)
    line = re.sub(r"\d+(\.\d+)? ?(µs|ms|s|min)\b|\b\d+\.\d{3}\b", "T", line)
    line = re.sub(r"\d+(\.\d+)? ?([KMG]i)?B\b", "B", line)
    line = re.sub(r"\d{4}-\d\d-\d\d[T ][\d:.]+Z?", "D", line)
    line = re.sub(r"\bj\d+\b", "J", line)
    line = re.sub(r"\b\d+ slots?\b", "N slots", line)
    return re.sub(r"\s+", " ", re.sub(r"[-─]+", "-", line)).strip()


def assert_prints(expected, printed):
    """`...` alone on a line stands for any lines, within a line for any text."""
    lines = [steady(line) for line in expected.strip().splitlines()]
    wanted = "\n".join(r"(?:.*\n)*?.*" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") for line in lines)
    shown = "\n".join(steady(line) for line in printed.strip().splitlines())
    assert re.fullmatch(wanted, shown), f"printed:\n{printed}\ninstead of:\n{expected}"


class World:
    """What the blocks of one document share."""

    def __init__(self, document, folder, data):
        self.document, self.folder = document, folder
        self.ports, self.listens, self.served, self.schedulers = {}, {}, set(), []
        self.etcd, self.default, self.printed, self.done, self.started = None, None, "", 0, set()
        shutil.copytree(data, folder / "data")
        programs = folder / "programs"
        programs.mkdir()
        (programs / "volley").symlink_to(VOLLEY)
        (programs / "volley-bench").symlink_to(BENCH)
        path = os.pathsep.join([str(programs), str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
        own = {name: value for name, value in os.environ.items() if not name.startswith(("VOLLEY_", "XDG_"))}
        self.environment = {**own, "PATH": path, "HOME": str(folder)}

    def close(self):
        self.end_processes()
        if self.etcd:
            self.etcd.stop()

    def end_processes(self):
        if self.default:
            self.default.stop()
        end(list(self.listens))
        self.ports, self.listens, self.served, self.schedulers, self.default = {}, {}, set(), [], None

    # What a text becomes.

    def place(self, address):
        return self.ports.setdefault(address, f"127.0.0.1:{free_port()}")

    def here(self, text):
        for pattern, replacement in SUBSTITUTIONS:
            text = re.sub(pattern, replacement.replace("{folder}", str(self.folder)), text)

        def placed(match):
            host, port, *_ = match.groups()
            return self.place(f"{host}:{port}") if port else self.place("127.0.0.1:5432").split(":")[1]

        return ADDRESS.sub(placed, text)

    def with_defaults(self, command):
        for word, flags in DEFAULTS.items():
            for flag, value in flags.items():
                if re.search(rf"(^|\s)volley {word}\b", command) and flag not in command and "--help" not in command:
                    value = value or f"127.0.0.1:{free_port()}"
                    command = re.sub(rf"\bvolley {word}\b", f"volley {word} {flag} {value}", command, count=1)
        return command

    # What has to run for it.

    def prepare(self, text):
        """Starts what a block asks for and no block before it has started. Schedulers that are new to the document end those before them."""
        schedulers = set(re.findall(r"^volley scheduler\b(?!.*--help).*$", text, re.M))
        if schedulers & self.started:
            return
        if schedulers:
            self.end_processes()
            self.started |= schedulers
            members = re.search(r"etcd://([\d.:,]+)", text)
            if members:
                self.etcd = self.etcd or Etcd(self.folder, members=3)
                self.ports.update(zip(members[1].split(","), (member.address for member in self.etcd.members)))
            return
        if all(elsewhere(line) for line in text.splitlines()):
            return
        asked = {f"{host or '127.0.0.1'}:{port or '5432'}" for host, port, *_ in ADDRESS.findall(text)}
        asked |= {"127.0.0.1:50050"} if re.search(r"(^|\s)volley (jobs|job|cancel|executors)\b(?!.*--(cluster|help))", text, re.M) else set()
        services = {"50050": "address", "8080": "http", "5432": "postgres", "50061": "executor"}
        missing = {address for address in asked if address not in self.served and address.split(":")[1] in services}
        # Of several schedulers that a text names one is enough.
        if not missing or (asked & self.served and not self.default):
            return
        if not self.default:
            self.end_processes()
            self.start_default()
        for address in missing:
            kind = services[address.split(":")[1]]
            self.ports[address] = self.default_places[kind]
            self.served.add(address)

    def start_default(self):
        """A scheduler and three executors, where a document speaks of a cluster that it does not start."""
        folder = pathlib.Path(tempfile.mkdtemp(prefix="default", dir=self.folder))
        self.default = Cluster(folder, {"HOME": str(self.folder)})
        postgres = f"127.0.0.1:{free_port()}"
        self.default.expiry = ["--postgres", postgres]
        self.default.scheduler()
        for number in (1, 2, 3):
            self.default.executor(number, memory="512MiB")
        wait_until("three executors", lambda: self.default.executors() == 3)
        executor = f"127.0.0.1:{self.default.ports[1]}"
        self.default_places = {"address": self.default.address, "http": self.default.http, "postgres": postgres, "executor": executor}
        self.schedulers = [self.default.address]

    def cluster(self):
        if not self.schedulers:
            self.prepare("127.0.0.1:50050")
        return ",".join(f"http://{address}" for address in self.schedulers)

    # What runs it.

    def start(self, command):
        """A command that does not end, until it is ready."""
        words = shlex.split(self.here(self.with_defaults(command)), comments=True)
        words = words[:words.index("&")] if "&" in words else words
        flags = {flag: value for flag, value in zip(words, words[1:]) if flag.startswith("--")}
        listen = flags["--listen"]
        for earlier, where in self.listens.items():
            if where == listen and earlier.poll() is None:
                earlier.terminate()
                earlier.wait(timeout=30)
        log = open(self.folder / f"{words[1]}-{listen.split(':')[1]}.log", "ab")
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment, cwd=self.folder)
        self.listens[process] = listen
        self.served |= {address for address, place in self.ports.items() if place in flags.values()}

        def is_ready():
            assert process.poll() is None, pathlib.Path(log.name).read_text()
            return self.answers(flags["--http"]) if words[1] == "scheduler" else listen in self.live(flags["--scheduler"])

        wait_until(" ".join(words), is_ready)
        if words[1] == "scheduler" and listen not in self.schedulers:
            self.schedulers.append(listen)

    def answers(self, http):
        try:
            with urllib.request.urlopen(f"http://{http}/healthz", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def live(self, schedulers):
        told = subprocess.run([VOLLEY, "executors", "--cluster", schedulers, "--format", "json"], capture_output=True, text=True)
        executors = json.loads(told.stdout) if told.returncode == 0 else []
        return {executor["address"].removeprefix("http://") for executor in executors if executor["state"] == "live"}

    def run(self, command):
        """A command that ends; what it prints."""
        if re.match(r"volley (scheduler|executor)\b(?!.*(--help|\|))", command):
            self.start(command)
            return ""
        environment = {**self.environment, "VOLLEY_HTTP": self.ports.get("127.0.0.1:8080", "")}
        if not command.startswith("volley health"):
            del environment["VOLLEY_HTTP"]
        text = self.here(self.with_defaults(command))
        # By standard input, so that no command line but volley's has what `pgrep -f` may look for.
        shell = ["bash", "-e", "-o", "pipefail", "-c", 'eval "$(cat)" </dev/null']
        done = subprocess.run(shell, input=text, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SECONDS,
                              env=environment, cwd=self.folder)
        self.status = done.returncode
        return done.stdout

    def is_elsewhere(self, text):
        """Counts a command, by where it runs."""
        entry = elsewhere(text)
        COUNTS["elsewhere" if entry else "here"] += 1
        return entry is not None

    # One for each language.

    def sh(self, block):
        self.printed = ""
        for command in commands_of(block.text):
            if not self.is_elsewhere(command):
                self.status = 0
                printed = self.run(command)
                assert self.status == 0, f"{command}\n{printed}"
                self.printed += printed

    def console(self, block):
        """Commands behind `$ ` with what they print; how they end is not said, so that it is not looked at."""
        for part in re.split(r"^\$ ", block.text, flags=re.M)[1:]:
            command, _, expected = part.partition("\n")
            if not self.is_elsewhere(command):
                assert_prints(self.here(expected), self.run(command))

    def sql(self, block):
        statements = statements_of(self.here(block.text))
        COUNTS["here"] += len(statements)
        commands = [word for statement in statements for word in ("-c", statement)]
        done = subprocess.run(["volley", "sql", "--cluster", self.cluster(), *commands], stdin=subprocess.DEVNULL, text=True, timeout=SECONDS,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self.environment, cwd=self.folder)
        assert done.returncode == 0, done.stdout
        self.printed = done.stdout

    def python(self, block):
        COUNTS["here"] += 1
        done = subprocess.run([sys.executable, "-B", "-c", self.here(block.text)], stdin=subprocess.DEVNULL, text=True, timeout=SECONDS,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self.environment, cwd=self.folder)
        assert done.returncode == 0, done.stdout
        self.printed = done.stdout

    def toml(self, block):
        """`volley config` reads it, and says of each key that it is from this file."""
        COUNTS["here"] += 1
        file = self.folder / "config.toml"
        file.write_text(block.text)
        done = subprocess.run([VOLLEY, "config"], capture_output=True, text=True, env={**self.environment, "VOLLEY_CONFIG": str(file)})
        assert done.returncode == 0, done.stderr
        from_file = {line.split("|")[1].strip() for line in done.stdout.splitlines() if f"{file}, line" in line}
        settings = tomllib.loads(block.text)
        assert {key for key, value in settings.items() if not isinstance(value, dict)} <= from_file, done.stdout

    def ini(self, block):
        """The command of a unit."""
        COUNTS["here"] += 1
        self.run(re.search(r"^ExecStart=(.*)$", block.text, re.M)[1].replace("/usr/local/bin/", ""))

    def yaml(self, block):
        """Services of docker-compose.yml, and none else. Compose itself runs in .ci/containers."""
        COUNTS["checked"] += 1
        services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
        assert set(yaml.safe_load(block.text)["services"]) <= set(services)

    def rust(self, block):
        """A part of an example, which .ci/run compiles; `// ..` stands for lines that are left out."""
        COUNTS["checked"] += 1
        bare = lambda text: "\n".join(line.strip() for line in text.strip().splitlines() if line.strip())
        examples = [bare(example.read_text()) for example in ROOT.glob("client/examples/*.rs")]
        parts = [bare(part) for part in re.split(r"^\s*// \.\.$", block.text, flags=re.M)]
        assert any(all(part in example for part in parts) for example in examples), "in no file of client/examples"

    def text(self, block):
        """What the block above prints, a session at the prompt, or an error with the statement in it."""
        if block.text.splitlines()[0] in PICTURES:
            return
        if elsewhere(block.text):
            COUNTS["elsewhere"] += 1
        elif block.follows:
            COUNTS["checked"] += 1
            assert_prints(self.here(block.text), self.printed)
        elif block.text.startswith("$ volley sql\n"):
            self.prompt(block)
        else:
            statement = re.search(r"^\d+ \| (.*)$", block.text, re.M)
            assert statement, "neither runs nor is in a list"
            COUNTS["here"] += 1
            assert_prints(self.here(block.text), self.run(f"volley sql --quiet -c {shlex.quote(statement[1])}"))

    def prompt(self, block):
        """Types what stands behind the prompt, and looks at the screen."""
        text = self.here(block.text)
        terminal = Terminal(self.folder, columns=150)
        try:
            for number, statement in enumerate(re.findall(r"^volley> ([^;]*;)", text, re.M), 1):
                terminal.until(lambda screen: screen.count("volley>") == number and terminal.is_at_prompt())
                for line in statement.splitlines():
                    terminal.enter(line)
                COUNTS["here"] += 1
            terminal.until(lambda screen: screen.count("volley>") == number + 1 and terminal.is_at_prompt())
            assert_prints(text.partition("\n")[2], terminal.text().removesuffix("volley>"))
        finally:
            terminal.kill()


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Files that documents name below /data."""
    folder = tmp_path_factory.mktemp("data")
    copy = f"COPY (SELECT * FROM tpch.sf0_01.orders) TO '{folder}/orders/' STORED AS PARQUET"
    subprocess.run([VOLLEY, "sql", "--memory", "512MiB", "-c", copy], check=True, capture_output=True)
    (folder / "numbers.csv").write_text("n;name\n1;one\n2;two\n")
    return folder


@pytest.fixture(scope="session")
def worlds(tmp_path_factory, data):
    """The world of a document; that of another one ends when it is asked for."""
    open_worlds = {}

    def world_of(document):
        if document not in open_worlds:
            for other in open_worlds.values():
                other.close()
            open_worlds.clear()
            open_worlds[document] = World(document, tmp_path_factory.mktemp(document.stem), data)
        return open_worlds[document]

    yield world_of
    for world in open_worlds.values():
        world.close()
    conftest.SUMMARY.append(f"docs: {COUNTS['here']} commands ran, {COUNTS['checked']} outputs and excerpts compared, {COUNTS['elsewhere']} run elsewhere")


@pytest.mark.parametrize("block", BLOCKS, ids=name_of)
def test_block(worlds, block):
    world = worlds(block.document)
    blocks = [other for other in BLOCKS if other.document == block.document]
    for other in blocks[world.done:blocks.index(block) + 1]:
        world.done += 1
        assert other.language in ("sh", "console", "sql", "python", "toml", "ini", "yaml", "rust", "text"), "nothing runs this language"
        if other.language in ("sh", "console", "python", "ini"):
            world.prepare(other.text)
        getattr(world, other.language)(other)
        # Seen with `pytest -s`, by who writes a document.
        print(world.printed)


def test_what_runs_elsewhere_is_shown_and_runs_there():
    shown = [command for block in BLOCKS if block.language == "sh" for command in commands_of(block.text)]
    shown += [block.text for block in BLOCKS if block.language == "text"]
    for entry in ELSEWHERE:
        assert any(re.search(entry.pattern, command) for command in shown), f"no document shows {entry.pattern}"
        assert (ROOT / entry.where).exists(), f"there is no {entry.where}"
    first_lines = {block.text.splitlines()[0] for block in BLOCKS if block.language == "text"}
    assert set(PICTURES) <= first_lines


def test_links_lead_somewhere():
    for document in DOCUMENTS:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / link).exists(), f"{document}: {link}"


def test_configuration_is_what_the_program_says(tmp_path):
    written = tmp_path / "configuration.md"
    subprocess.run([sys.executable, "-B", ROOT / "docs" / "configuration.py", VOLLEY, written], check=True)
    assert written.read_text() == (ROOT / "docs" / "configuration.md").read_text(), "run docs/configuration.py"
