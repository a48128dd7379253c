"""How long small statements take over one open ADBC connection, beside the floor.

    volley-bench floor --listen 127.0.0.1:50099 &
    python latency.py --cluster grpc://127.0.0.1:50050 --floor grpc://127.0.0.1:50099

The floor is a bare Flight SQL server with a canned row: what this client, gRPC and Flight cost by themselves. Short blocks of
one statement alternate, so that all see the same machine and none the caches that another one left. Needs adbc-driver-flightsql and pyarrow from PyPI.
"""

import argparse
import re
import statistics
import time

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi as flight_sql

TINY = "SELECT k, count(*) AS n FROM tiny GROUP BY k"
BLOCK = 20
UNCOUNTED = 5
COOKIES = {adbc_driver_flightsql.DatabaseOptions.WITH_COOKIE_MIDDLEWARE.value: "true"}


def milliseconds(cursor, sql):
    start = time.perf_counter()
    cursor.execute(sql)
    cursor.fetchall()
    return (time.perf_counter() - start) * 1e3


def connect(url):
    return flight_sql.connect(url, db_kwargs=COOKIES, autocommit=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cluster", default="grpc://127.0.0.1:50050")
    parser.add_argument("--floor", default="grpc://127.0.0.1:50099")
    parser.add_argument("--count", type=int, default=200, help="times of each")
    parser.add_argument("--table", required=True, help="a small Parquet file with a column k, for the aggregate of two stages")
    args = parser.parse_args()
    with connect(args.floor) as bare, connect(args.cluster) as cluster, bare.cursor() as floor, cluster.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS tiny")
        cursor.execute(f"CREATE EXTERNAL TABLE tiny STORED AS PARQUET LOCATION '{args.table}'")
        cursor.execute("SET volley.fit = 'never'")
        runs = {"floor": (floor, "SELECT 1"), "SELECT 1": (cursor, "SELECT 1"), "two stages": (cursor, TINY)}
        times = {name: [] for name in runs}
        for _ in range(-(-args.count // BLOCK)):
            for name, (target, sql) in runs.items():
                for _ in range(UNCOUNTED):
                    milliseconds(target, sql)
                times[name].extend(milliseconds(target, sql) for _ in range(BLOCK))
        cursor.execute("EXPLAIN " + TINY)
        stages = len(re.findall(r"^s\d+.*: tasks=", "\n".join(row[1] for row in cursor.fetchall()), re.MULTILINE))
    lowest = statistics.median(times["floor"])
    for name, taken in times.items():
        taken.sort()
        middle = statistics.median(taken)
        print(f"{name:<12} median {middle:7.3f} ms (floor {middle - lowest:+.3f})  least {taken[0]:7.3f}  99 % below {taken[int(len(taken) * 0.99)]:7.3f}")
    print(f"the aggregate has {stages} stages")


if __name__ == "__main__":
    main()
