"""DuckDB, in this process."""

import os

import duckdb


class Engine:
    """A database in memory whose views read the Parquet files at each query, as the other engines do."""

    def __init__(self, tables, threads):
        self._connection = duckdb.connect()
        self._connection.execute(f"SET threads = {threads}")
        for table in tables:
            pattern = table.pattern().replace("'", "''")
            self._connection.execute(f"CREATE VIEW \"{table.name}\" AS SELECT * FROM read_parquet('{pattern}')")
        limit = self._connection.execute("SELECT current_setting('memory_limit')").fetchall()[0][0]
        self.description = f"DuckDB {duckdb.__version__}, {threads} threads, memory limit {limit} as by default, rows as Arrow"
        self.pids = [os.getpid()]

    def run(self, sql):
        return self._connection.sql(sql).to_arrow_table().num_rows

    def close(self):
        self._connection.close()
