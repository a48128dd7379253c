"""LakeSail Sail in local mode: its server runs on threads of this process, which is the client, too."""

import os


def _limit_threads(threads):
    """Sail has no setting for the number of its threads: it counts the cores that this process may run on."""
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, allowed[:threads])
    os.environ["SAIL_MODE"] = "local"
    os.environ["SAIL_EXECUTION__DEFAULT_PARALLELISM"] = str(threads)


class Engine:
    """A session of Spark Connect whose temporary views are the tables."""

    def __init__(self, tables, threads):
        _limit_threads(threads)
        # Threads start with the first import.
        import pysail
        import pyspark
        from pysail.spark import SparkConnectServer
        from pyspark.sql import SparkSession

        self._server = SparkConnectServer("127.0.0.1", 0)
        self._server.start(background=True)
        _, port = self._server.listening_address
        self._session = SparkSession.builder.remote(f"sc://127.0.0.1:{port}").getOrCreate()
        for table in tables:
            self._session.read.parquet(str(table.path)).createOrReplaceTempView(table.name)
        self.pids = [os.getpid()]
        self.description = (
            f"Sail {pysail.__version__}, local mode, {threads} cores and partitions, "
            f"PySpark {pyspark.__version__} over Spark Connect in the same process, rows as Arrow"
        )

    def run(self, sql):
        return self._session.sql(sql).toArrow().num_rows

    def close(self):
        self._session.stop()
        self._server.stop()
