"""The prompt of `volley sql` as its user meets it: keys go in, and what is looked at is the screen."""

import fcntl
import os
import pty
import select
import signal
import stat
import struct
import subprocess
import termios
import time

import pyte
import pytest

from conftest import VOLLEY

PATIENCE = 30
PROMPT = "volley> "
CTRL_C, CTRL_D, CTRL_R, TAB, UP, END = "\x03", "\x04", "\x12", "\t", "\x1b[A", "\x1b[F"
# Takes minutes, in steps that end soon.
LONG = "SELECT count(*) FROM tpch.sf1.lineitem a CROSS JOIN tpch.sf0_1.lineitem b WHERE a.l_orderkey + b.l_orderkey = 7;"


class Terminal:
    """A terminal with the shell in it."""

    def __init__(self, folder, *arguments, environment=None, columns=100, lines=30):
        self.screen = pyte.Screen(columns, lines)
        self.stream = pyte.ByteStream(self.screen)
        self.seen = b""
        plain = {"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "xterm-256color", "LANG": "C.UTF-8", "TMPDIR": "/tmp"}
        self.process, self.terminal = pty.fork()
        if self.process == 0:
            os.execve(VOLLEY, [str(VOLLEY), "sql", "--slots", "2", "--memory", "256MiB", *arguments], {**plain, **(environment or {})})
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.ended = None

    def type(self, keys):
        os.write(self.terminal, keys.encode())

    def enter(self, line):
        self.type(line + "\r")

    def text(self):
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def read(self, seconds):
        """Takes what the shell has written, if it writes within this time; whether it still may."""
        if select.select([self.terminal], [], [], seconds)[0]:
            try:
                written = os.read(self.terminal, 1 << 16)
            except OSError:
                return False
            self.seen += written
            self.stream.feed(written)
        return True

    def until(self, is_so):
        deadline = time.monotonic() + PATIENCE
        while not is_so(self.text()):
            assert time.monotonic() < deadline and self.read(0.1), f"the screen shows:\n{self.text()}"
        return self.text()

    def shows(self, *texts):
        """Waits until all of these are on the screen."""
        return self.until(lambda screen: all(text in screen for text in texts))

    def is_at_prompt(self):
        return self.screen.display[self.screen.cursor.y].rstrip() == PROMPT.strip()

    def prompts(self):
        """Waits for an empty prompt at the cursor."""
        return self.until(lambda _: self.is_at_prompt())

    def run(self, line):
        """Enters a line, and gives the screen when the next prompt is there."""
        self.clear()
        self.type(line)
        self.until(lambda _: not self.is_at_prompt())
        self.type("\r")
        return self.prompts()

    def clear(self):
        self.type("\x0c")
        self.until(lambda screen: screen.strip() == PROMPT.strip())

    def end(self):
        """The exit code, when the shell has ended."""
        deadline = time.monotonic() + PATIENCE
        while self.ended is None:
            assert time.monotonic() < deadline, f"it does not end:\n{self.text()}"
            self.read(0.1)
            process, status = os.waitpid(self.process, os.WNOHANG)
            if process:
                self.ended = os.waitstatus_to_exitcode(status)
        return self.ended

    def kill(self):
        if self.ended is None:
            os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
        os.close(self.terminal)


@pytest.fixture
def terminal(tmp_path):
    opened = []

    def open_terminal(*arguments, **keywords):
        opened.append(Terminal(tmp_path, *arguments, **keywords))
        opened[-1].shows("embedded cluster: 1 executor, 2 slots and 0.2 GiB", "--cluster", "\\? for help")
        opened[-1].prompts()
        return opened[-1]

    yield open_terminal
    for shell in opened:
        shell.kill()


def test_a_table_fits_the_screen_and_says_what_it_leaves_out(terminal):
    shell = terminal()
    screen = shell.run("SELECT * FROM tpch.sf0_01.lineitem;")
    assert "60175 rows (22 shown), 16 columns (" in screen and "⋮" in screen and "…" in screen
    assert "bigint" in screen and " s, j" in screen
    screen = shell.run("\\x")
    assert "format is vertical" in screen
    screen = shell.run("SELECT n_name, n_regionkey FROM tpch.sf0_01.nation WHERE n_nationkey = 7;")
    assert "-[ 1 ]-" in screen and "n_name      | GERMANY" in screen and "1 row in " in screen


def test_a_statement_of_several_lines_is_edited_as_one(terminal):
    shell = terminal()
    shell.enter("SELECT 6 *")
    shell.enter("  7 AS answer")
    shell.enter(";")
    shell.shows("│     42 │", "1 row in ")
    shell.prompts()
    shell.clear()
    shell.type(UP)
    shell.shows("volley> SELECT 6 *\n  7 AS answer\n;")
    shell.type(CTRL_C)
    shell.prompts()


def test_tab_completes_keywords_tables_columns_functions_and_commands(terminal, tmp_path):
    shell = terminal()
    shell.run("CREATE TEMPORARY TABLE journeys AS SELECT 1 AS distance_km, 2 AS driver;")
    for typed, completed in [
        ("SEL", "SELECT"),
        ("SELECT * FROM jour", "FROM journeys"),
        ("SELECT * FROM tpch.sf1.part", "tpch.sf1.part"),
        ("SELECT driver FROM journeys WHERE dista", "WHERE distance_km"),
        ("SELECT approx_dist", "approx_distinct("),
        ("SET volley.fi", "volley.fit"),
        ("\\tim", "\\timing"),
        ("\\mode ver", "\\mode ver"),
        (".mode ver", ".mode vertical"),
        ("\\d journ", "\\d journeys"),
    ]:
        shell.clear()
        shell.type(typed + TAB)
        shell.shows(completed)
        shell.type(CTRL_C)
        shell.prompts()


def test_ctrl_c_cancels_a_statement_whose_progress_is_shown(terminal):
    shell = terminal()
    shell.enter("SET volley.fit = 'never';")
    shell.shows("done")
    shell.enter(LONG)
    shell.shows("stages ", "tasks ", " running)")
    shell.type(CTRL_C)
    screen = shell.shows("cancelled")
    assert "tasks " not in screen, "the line of progress is gone"
    screen = shell.run("\\jobs")
    assert "│ cancelled │" in screen and "SELECT count(*) " in screen
    assert "│      1 │" in shell.run("SELECT 1 AS number;")


def test_an_error_shows_its_place_and_the_nearest_name(terminal):
    shell = terminal()
    screen = shell.run("SELECT n_nam FROM tpch.sf0_01.nation;")
    assert "error: unknown column 'n_nam'; did you mean 'n_name'? (line 1, column 8)" in screen
    assert "1 | SELECT n_nam FROM tpch.sf0_01.nation\n  |        ^^^^^" in screen
    assert b"\x1b[31m" in shell.seen, "in red"
    assert "unknown command \\tming: did you mean \\timing?" in shell.run("\\tming")


def test_no_colour_where_none_is_wanted(terminal):
    shell = terminal(environment={"NO_COLOR": "1"})
    shell.run("SELECT n_nam FROM tpch.sf0_01.nation;")
    assert b"\x1b[31m" not in shell.seen and b"\x1b[1m" not in shell.seen


def test_a_pager_shows_what_does_not_fit(terminal, tmp_path):
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho PAGED $(wc -l) LINES\n")
    pager.chmod(0o700)
    shell = terminal(environment={"VOLLEY_PAGER": str(pager)})
    assert "PAGED" not in shell.run("SELECT 1 AS one;")
    shell.run("\\rows 0")
    screen = shell.run("SELECT * FROM tpch.sf0_01.nation;")
    # 25 rows, two lines of header and three of frame.
    assert "PAGED 30 LINES" in screen and "25 rows in " in screen
    shell.run("\\f csv")
    assert "PAGED 60176 LINES" in shell.run("SELECT l_orderkey FROM tpch.sf0_01.lineitem;")
    shell.run("\\pager never")
    assert "PAGED" not in shell.run("SELECT * FROM tpch.sf0_01.nation;")


@pytest.mark.skipif(not any(os.access(f"{folder}/less", os.X_OK) for folder in os.environ["PATH"].split(":")), reason="no less here")
def test_less_is_left_with_q_and_the_prompt_is_back(terminal):
    shell = terminal("--pager", "always")
    shell.clear()
    shell.enter("SELECT * FROM tpch.sf0_01.lineitem ORDER BY l_orderkey, l_linenumber;")
    shell.shows("l_orderkey", "l_partkey")
    shell.type("q")
    shell.prompts()
    assert "│      1 │" in shell.run("SELECT 1 AS number;")


def test_results_go_to_a_file_and_back(terminal, tmp_path):
    shell = terminal()
    file = tmp_path / "nations.parquet"
    for line in ["\\f parquet", f"\\o {file}", "SELECT * FROM tpch.sf0_01.nation;"]:
        shell.run(line)
    assert "holds one in a file" in shell.run("SELECT 1 AS one;")
    shell.run("\\o")
    assert "parquet is not for terminals" in shell.run("SELECT 1 AS one;")
    shell.run("\\f table")
    assert "│       25 │" in shell.run(f"SELECT count(*) FROM '{file}';")


def test_what_was_typed_is_there_in_the_next_shell(terminal, tmp_path):
    shell = terminal()
    for line in ["SELECT 11 AS n;", "SELECT 22 AS n;", "SELECT 11 AS n;"]:
        shell.run(line)
    shell.type(CTRL_D)
    assert shell.end() == 0
    file = tmp_path / ".local/state/volley/history"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text() == "#V2\nSELECT 22 AS n;\nSELECT 11 AS n;\n"
    shell = terminal()
    shell.type(CTRL_R + "22")
    shell.shows("SELECT 22 AS n;")
    shell.type("\r")
    shell.shows("│     22 │")


def test_the_file_of_settings_holds_and_files_are_read(terminal, tmp_path):
    (tmp_path / ".config/volley").mkdir(parents=True)
    (tmp_path / ".config/volley/config.toml").write_text("timing = false\nrows = 4\n[settings]\nvolley.fit = 'never'\n")
    (tmp_path / "script.sql").write_text("\\f csv\nSELECT 1 AS one;\nSELECT nope;\nSELECT 2 AS two;\n")
    shell = terminal()
    screen = shell.run("SELECT * FROM tpch.sf0_01.nation;")
    assert "25 rows (4 shown)" in screen and " s, j" not in screen
    assert "never" in shell.run("SHOW volley.fit;")
    screen = shell.run(f"\\i {tmp_path}/script.sql")
    assert "one\n1\n" in screen and "line 3, column 8 of " in screen and "two" not in screen


def test_leaving(terminal):
    for words in ["\\q", ".quit", "exit", "quit;"]:
        shell = terminal()
        shell.enter(words)
        assert shell.end() == 0, words


def test_one_statement_is_done_soon():
    took = []
    for _ in range(5):
        started = time.monotonic()
        subprocess.run([VOLLEY, "sql", "-c", "SELECT 1"], check=True, capture_output=True)
        took.append(time.monotonic() - started)
    assert min(took) < 0.5, took
