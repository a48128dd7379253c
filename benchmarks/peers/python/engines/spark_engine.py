"""Apache Spark in local mode: this process is the client, a JVM that it starts is driver and executor."""

import os
import tempfile

import pyspark
from pyspark.sql import SparkSession

DRIVER_MEMORY = "8g"


class Engine:
    """A session whose temporary views are the tables. Adaptive execution and shuffle partitions are as by default."""

    def __init__(self, tables, threads):
        # Wherever the peer is started, Spark leaves nothing there.
        self._folder = tempfile.TemporaryDirectory(prefix="peer-spark-")
        settings = {
            "spark.driver.memory": DRIVER_MEMORY,
            "spark.local.dir": self._folder.name,
            "spark.sql.warehouse.dir": os.path.join(self._folder.name, "warehouse"),
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
        }
        self._session = SparkSession.builder.master(f"local[{threads}]").appName("peer").config(map=settings).getOrCreate()
        self._session.sparkContext.setLogLevel("ERROR")
        for table in tables:
            self._session.read.parquet(str(table.path)).createOrReplaceTempView(table.name)
        java = self._session.sparkContext._jvm.java.lang
        self.pids = [os.getpid(), java.ProcessHandle.current().pid()]
        shuffle = self._session.conf.get("spark.sql.shuffle.partitions")
        adaptive = self._session.conf.get("spark.sql.adaptive.enabled")
        self.description = (
            f"Spark {pyspark.__version__}, local[{threads}], Java {java.System.getProperty('java.version')}, driver memory {DRIVER_MEMORY}, "
            f"spark.sql.adaptive.enabled={adaptive}, spark.sql.shuffle.partitions={shuffle}, rows as Arrow"
        )

    def run(self, sql):
        return self._session.sql(sql).toArrow().num_rows

    def close(self):
        self._session.stop()
        self._folder.cleanup()
