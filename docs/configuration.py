#!/usr/bin/env python3
"""Writes docs/configuration.md from what the program says about itself.

    docs/configuration.py target/release/volley [docs/configuration.md]
"""

import csv
import io
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import textwrap
import time

HEAD = """\
# Configuration

Every flag, variable, key and option, as the program names them. `docs/configuration.py` writes this file from `volley help`, `volley config` and
`SHOW ALL VERBOSE`; a test compares it with the program.

A flag goes before its variable, a variable before the file of settings of the shell, and that before what is built in.

| Value | Is |
|---|---|
| `TIME` | a number with its unit: `500ms`, `10s`, `5m`, `1h` |
| `SECONDS` | a whole number of seconds |
| `SIZE` | bytes, or a number with its unit: `4GiB`, `512MB` |
| `BYTES` | a whole number of bytes |
| `HOST:PORT` | an address; `HOST` may be a name |
| `URL` | `http://HOST:PORT` for a scheduler |
"""
STORES = (
    "`AWS_*`, `GOOGLE_*` and `AZURE_*` variables of the scheduler and of each executor are credentials and endpoints of object stores. "
    "`VOLLEY_STORE_TIMEOUT` (30s), `VOLLEY_STORE_CONNECT_TIMEOUT` (5s), `VOLLEY_STORE_RETRIES` (10) and `VOLLEY_STORE_RETRY_TIMEOUT` (60s) say how long "
    "a store is waited for. The same settings are options of `CREATE EXTERNAL TABLE`: `store.timeout`, `aws.endpoint` and so on."
)
LOG = "`VOLLEY_LOG` of every command writes a log to standard error: a level (`info`, `debug`) or levels of modules (`volley_scheduler=debug`)."
# What the program says of no flag.
WORDS = {"pager_command": "The pager", "history": "Keep what is typed at the prompt", "history_file": "Where it is kept"}


def said(program, *arguments, file=None):
    """What the program prints, whatever the user's own settings are."""
    with tempfile.TemporaryDirectory() as home:
        environment = {"PATH": os.environ["PATH"], "HOME": home, **({"VOLLEY_CONFIG": file} if file else {})}
        done = subprocess.run([program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment)
    if done.returncode and not file:
        sys.exit(f"{program} {' '.join(arguments)}: {done.stderr}")
    return (done.stdout or done.stderr).replace(home, "~")


def paragraph(text):
    return textwrap.fill(" ".join(text.split()), 160, break_long_words=False, break_on_hyphens=False) + "\n"


def cell(text):
    return text.replace("|", "\\|")


def table(heads, rows):
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads), *(f"| {' | '.join(map(cell, row))} |" for row in rows)]
    return "\n".join(lines) + "\n"


def code(text):
    return f"`{text}`" if text else ""


def flags(program, command):
    """The flags of a command by name: flag, variable, default, what it does."""
    options, current = [], None
    for line in said(program, command, "-h").partition("Options:\n")[2].splitlines():
        if line.startswith("Examples:"):
            break
        flag = re.match(r" {2,6}(-\w, )?--([\w-]+)((?: <|\[=<)[^>]*>\]?)? *(.*)", line)
        if flag:
            current = [flag[2], flag[1] or "", (flag[3] or "").strip(), flag[4]]
            options.append(current)
        elif line.startswith("       ") and current:
            current[3] += " " + line.strip()
    rows = {}
    for name, short, value, text in options:
        if name in ("help", "version"):
            continue
        found = {key: re.search(rf"\[{key}: ?([^\]=]*)=?\]", text) for key in ("env", "default", "possible values")}
        text = re.sub(r" *\[(env|default|possible values):[^\]]*\]", "", text).strip()
        if found["possible values"] and found["possible values"][1] != "true, false":
            text += ": " + ", ".join(code(choice.strip()) for choice in found["possible values"][1].split(","))
        separator = "" if value.startswith("[") else " "
        default = found["default"][1] if found["default"] else ""
        rows[name] = (code(f"{short}--{name}{separator}{value}".strip()), code(found["env"][1] if found["env"] else ""), code(default), text)
    return rows


def keys_of(program, text):
    """The keys that there are, from what is said of one that there is not."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(text)
        file.flush()
        return re.search(r"there are (.*)", said(program, "config", file=file.name))[1].split(", ")


def file_keys(program):
    """The keys of config.toml: those that the program knows, with its own words and what is built in."""
    sample = said(program, "help", "config").partition("every line may be left out:\n")[2]
    examples = dict(re.findall(r"^  ([\w.]+) = (.*?)(?: {2,}# .*)?$", sample, re.M))
    words = {**{name.replace("-", "_"): row[3] for name, row in flags(program, "sql").items()}, **WORDS}
    built_in = {}
    for line in said(program, "config").splitlines():
        if line.startswith("| ") and "built in" in line:
            key, value = (part.strip() for part in line.split("|")[1:3])
            built_in[key] = value
    known, embedded = keys_of(program, "no-key = 1"), keys_of(program, "[embedded]\nno-key = 1")
    rows = []
    for key in known:
        if key == "embedded":
            rows += [(code(f"[embedded] {inner}"), code(examples.get(inner, "")), "", words[inner]) for inner in embedded]
        elif key == "settings":
            rows.append(("`[settings] NAME`", code('volley.fit = "never"'), "", words["set"]))
        else:
            rows.append((code(key), code(examples.get(key, "")), code(built_in.get(key, "")), words[key]))
    return table(("Key", "Example", "Built in", "What it does"), rows)


def options(program, *cluster):
    rows = csv.DictReader(io.StringIO(said(program, "sql", "--quiet", *cluster, "--format", "csv", "-c", "SHOW ALL VERBOSE")))
    return {row["name"]: row for row in rows if row["name"].startswith("volley.")}


def options_of_a_cluster(program):
    """Options as a scheduler of its own gives them to a session; it needs no executor."""
    with tempfile.TemporaryDirectory() as folder:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            other.bind(("127.0.0.1", 0))
            listen, http = (f"127.0.0.1:{free.getsockname()[1]}" for free in (one, other))
        command = [program, "scheduler", "--listen", listen, "--http", http, "--state-dir", "state"]
        environment = {"PATH": os.environ["PATH"]}
        scheduler = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 30
            while subprocess.run([program, "health", f"http://{http}"], capture_output=True, env=environment).returncode:
                if time.monotonic() > deadline or scheduler.poll() is not None:
                    sys.exit("the scheduler did not start")
                time.sleep(0.05)
            return options(program, "--cluster", f"http://{listen}")
        finally:
            scheduler.terminate()
            scheduler.wait()


def session_options(program):
    embedded = options(program, "--embedded", "--slots", "1", "--memory", "256MiB")
    rows = []
    for name, option in options_of_a_cluster(program).items():
        default = code(option["value"])
        if embedded[name]["value"] != option["value"]:
            default += f"; in the embedded cluster {code(embedded[name]['value'])}"
        rows.append((code(name), default, option["description"]))
    return table(("Option", "Default", "What it does"), rows)


def written(program):
    parts = [HEAD]
    for command in ("scheduler", "executor", "sql"):
        rows = flags(program, command).values()
        parts.append(f"## `volley {command}`\n\n{table(('Flag', 'Variable', 'Default', 'What it does'), rows)}")
    parts.append(paragraph(
        "`VOLLEY_PAGER` names the pager, `VOLLEY_HISTORY` the file of what was typed, `VOLLEY_CONFIG` the file of settings; none of them has a flag."
    ))
    parts.append("## config.toml\n\n" + paragraph(
        "Settings of `volley sql`, in `~/.config/volley/config.toml` (`$XDG_CONFIG_HOME/volley/config.toml`) or the file that `VOLLEY_CONFIG` names. "
        "`volley config` shows what holds."
    ))
    parts.append(file_keys(program))
    parts.append("## Session options\n\n" + paragraph(
        "`SET volley.NAME = 'VALUE'` sets one for a session, `RESET volley.NAME` takes that back, `SHOW ALL` lists all, `SHOW ALL VERBOSE` with what they do. "
        "`--set` and `[settings]` set them when a session begins. Sizes are bytes or have a unit, such as 64MiB; times are whole numbers in the unit that is named. "
        "DataFusion's own options (`datafusion.*`) are listed and set in the same way; those that would break a plan in parts are refused with the reason."
    ))
    parts.append(session_options(program))
    parts += ["## Object stores\n\n" + paragraph(STORES), "## Log\n\n" + paragraph(LOG)]
    return "\n".join(parts)


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    place = pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else pathlib.Path(__file__).with_suffix(".md")
    place.write_text(written(str(pathlib.Path(sys.argv[1]).resolve())))


main()
