"""DuckDB, PySpark and Sail as peers: `peer.py --engine ENGINE --data DIR --suite SUITE --threads N`.

The line protocol is in README.md beside this folder. Only the chosen engine is imported: they live in two virtual environments.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path


def tables(data):
    """Name and path of each TABLE.parquet and of each folder TABLE with Parquet files."""
    found = {}
    for path in sorted(Path(data).absolute().iterdir()):
        if (path.is_file() and path.suffix == ".parquet") or (path.is_dir() and any(path.glob("*.parquet"))):
            found[path.stem] = path
    if not found:
        raise SystemExit(f"there are no tables in {data}")
    return found


def statements(sql):
    """The statements of a text. Semicolons in quotes and comments end none; comments are left out."""
    found, current, at = [], "", 0
    while at < len(sql):
        end = at + 1
        if sql[at] in "'\"`":
            end = sql.find(sql[at], at + 1) + 1 or len(sql)  # A doubled quote is two quoted texts side by side.
        elif sql.startswith("--", at):
            at = sql.find("\n", at) if "\n" in sql[at:] else len(sql)
            continue
        elif sql.startswith("/*", at):
            at = sql.find("*/", at) + 2 if "*/" in sql[at:] else len(sql)
            continue
        elif sql[at] == ";":
            found.append(current)
            current, at = "", end
            continue
        current += sql[at:end]
        at = end
    return [statement for statement in found + [current] if statement.strip()]


class DuckDb:
    def __init__(self, arguments):
        import duckdb

        self.connection = duckdb.connect()
        self.connection.execute(f"SET threads = {arguments.threads}")
        for name, path in tables(arguments.data).items():
            files = str(path / "*.parquet" if path.is_dir() else path).replace("'", "''")
            self.connection.execute(f"""CREATE VIEW "{name}" AS SELECT * FROM read_parquet('{files}')""")
        self.engine = f"DuckDB {duckdb.__version__}, in process, {arguments.threads} threads: rows taken as Arrow"
        self.pids = [os.getpid()]

    def run(self, sql):
        relation = self.connection.sql(sql)
        return relation.to_arrow_table().num_rows if relation else 0  # None for a statement without rows.

    def stop(self):
        self.connection.close()


class Spark:
    """What PySpark and Sail have in common: the client."""

    def register(self, data):
        for name, path in tables(data).items():
            self.session.read.parquet(str(path)).createOrReplaceTempView(name)

    def run(self, sql):
        return self.session.sql(sql).toArrow().num_rows


class PySpark(Spark):
    def __init__(self, arguments):
        import pyspark
        from pyspark.sql import SparkSession

        settings = {
            "spark.driver.memory": "8g",
            # The default, 200, suits a cluster: here it would be 200 tiny tasks for each exchange.
            "spark.sql.shuffle.partitions": 2 * arguments.threads,
        }
        # These change no query.
        quiet = {"spark.ui.enabled": "false", "spark.driver.host": "127.0.0.1", "spark.ui.showConsoleProgress": "false"}
        self.folder = tempfile.TemporaryDirectory(prefix="spark-")
        quiet |= {"spark.local.dir": self.folder.name, "spark.sql.warehouse.dir": f"{self.folder.name}/warehouse"}
        builder = SparkSession.builder.master(f"local[{arguments.threads}]")
        for name, value in (settings | quiet).items():
            builder = builder.config(name, value)
        self.session = builder.getOrCreate()
        context = self.session.sparkContext
        context.setLogLevel("ERROR")
        self.register(arguments.data)
        self.gateway = context._gateway
        java = context._jvm.java.lang
        version = java.System.getProperty("java.version")
        listed = ", ".join(f"{name}={value}" for name, value in settings.items())
        self.engine = f"Spark {pyspark.__version__} on Java {version}, local[{arguments.threads}]: {listed}, rows taken as Arrow"
        self.pids = [os.getpid(), java.ProcessHandle.current().pid()]

    def stop(self):
        self.session.stop()
        self.gateway.shutdown()
        # The JVM ends when this pipe does.
        self.gateway.proc.stdin.close()
        self.gateway.proc.wait()
        self.folder.cleanup()


class Sail(Spark):
    def __init__(self, arguments):
        # Sail has no setting for its number of threads; its runtime, Tokio, reads this.
        os.environ["TOKIO_WORKER_THREADS"] = str(arguments.threads)
        os.environ["SAIL_MODE"] = "local"
        os.environ["SAIL_EXECUTION__DEFAULT_PARALLELISM"] = str(arguments.threads)
        from importlib.metadata import version

        from pysail.spark import SparkConnectServer
        from pyspark.sql import SparkSession

        self.server = SparkConnectServer()
        self.server.start(background=True)
        _, port = self.server.listening_address
        self.session = SparkSession.builder.remote(f"sc://127.0.0.1:{port}").getOrCreate()
        self.register(arguments.data)
        self.engine = (
            f"Sail {version('pysail')}, local mode, server and Spark Connect client {version('pyspark-client')} in one process, "
            f"{arguments.threads} threads (TOKIO_WORKER_THREADS): execution.default_parallelism={arguments.threads}, rows taken as Arrow"
        )
        self.pids = [os.getpid()]

    def stop(self):
        self.session.stop()
        self.server.stop()


ENGINES = {"duckdb": DuckDb, "pyspark": PySpark, "sail": Sail}


def serve(engine, queries, answers):
    """Says that the engine is ready and answers queries until the input ends."""

    def answer(message):
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    answer({"engine": engine.engine, "pids": engine.pids})
    for line in queries:
        if not line.strip():
            continue
        try:
            rows = 0
            for statement in statements(json.loads(line)["sql"]):
                rows = engine.run(statement)
            answer({"rows": rows})
        except Exception as error:  # Whatever an engine raises is the query's answer.
            answer({"error": f"{type(error).__name__}: {error}"})


def main():
    parser = argparse.ArgumentParser(description="An engine behind the line protocol of Volley's benchmarks.")
    parser.add_argument("--engine", choices=ENGINES, required=True)
    parser.add_argument("--data", metavar="DIR", required=True)
    parser.add_argument("--suite", required=True)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()

    # What engines and their child processes print to standard output goes to standard error: the protocol has it for itself.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    engine = ENGINES[arguments.engine](arguments)
    try:
        serve(engine, sys.stdin, answers)
    finally:
        engine.stop()


if __name__ == "__main__":
    main()
