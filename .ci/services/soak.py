"""Mixed TPC-H queries from 8 sessions for half an hour, and something is killed every few seconds: by hand.

    VOLLEY_BIN=target/release/volley python soak.py DATA [MINUTES]

DATA is a folder with TPC-H as Parquet files. Executors 1 and 2 are killed, frozen and restarted, the scheduler is killed; executor 3 and,
in the second half, the scheduler are left alone, so that their memory and descriptors can be followed. Prints what came of the queries,
and memory (resident MiB) and descriptors of these two by tenths of the time; ends with 1 if a row was wrong, a query failed or hung, or
something is left behind.
"""

import collections
import pathlib
import random
import signal
import sys
import tempfile
import threading
import time

from conftest import Cluster, wait_until
from test_chaos import kill, nothing_is_left, started
from test_restart import QUERIES, Session
from time_factor import TABLES

SESSIONS = 8
# Clients that lost their connection may take long to try again: gRPC's pauses grow.
EXPIRY = 60
SETTINGS = ["SET volley.fit = 'never'"]
# A client is told so, or sees its connection end; it asks again.
AGAIN = ("unavailable", "cancelled", "run it again", "connection", "socket", "does not know this job")


class Soak:
    def __init__(self, cluster, texts, expected, ends):
        self.cluster, self.texts, self.expected, self.ends = cluster, texts, expected, ends
        self.outcomes, self.problems, self.faults = collections.Counter(), [], collections.Counter()
        self.asked_again = 0
        self.since = {}

    def session(self, number):
        """Runs queries one after the other until the time is over."""
        random_ = random.Random(number)
        while time.monotonic() < self.ends:
            at = random_.randrange(len(self.texts))
            self.since[number] = (time.monotonic(), at)
            try:
                rows = self.rows(f"soak{number}", self.texts[at])
            except Exception as error:
                self.outcomes["failed"] += 1
                self.problems.append(f"Q{at + 1} failed: {error}"[:2000])
                continue
            is_right = rows == self.expected[at]
            self.outcomes["right" if is_right else "wrong"] += 1
            if not is_right:
                self.problems.append(f"Q{at + 1} gave other rows: {rows[:3]}")
        self.since.pop(number, None)

    def rows(self, name, text):
        """A client that waits for a scheduler that is away, for its result by the same ticket where it has one."""
        deadline, ticket, trail = time.monotonic() + 180, None, []
        while True:
            try:
                session = Session(self.cluster, name, timeout=170)
                if ticket is None:
                    for setting in SETTINGS:
                        session.run(setting)
                    ticket, _ = session.accepted(text)
                return sorted(map(str, session.rows(ticket)))
            except Exception as error:
                words = f"{type(error).__name__} {error}".lower()
                trail.append(f"{time.strftime('%X')} {words[:120]}")
                if time.monotonic() > deadline or not any(word in words for word in AGAIN):
                    raise RuntimeError("\n  ".join([f"tried {len(trail)} times", *trail[-5:]])) from error
                self.asked_again += 1
                if "unavailable" not in words and "connection" not in words:
                    ticket = None
                time.sleep(0.2)

    def break_things(self, quiet_scheduler_from):
        random_ = random.Random(77)
        while time.monotonic() < self.ends - 20:
            time.sleep(random_.uniform(2, 12))
            number = random_.choice((1, 2))
            node = self.cluster.nodes[number]
            fault = random_.choice(("executor killed", "executor killed", "executor frozen for 2 s", "executor told to leave", "scheduler killed"))
            if fault == "scheduler killed" and time.monotonic() > quiet_scheduler_from:
                continue
            if fault == "executor killed":
                kill(node)
                self.cluster.nodes[number] = self.cluster.executor(number)
            elif fault == "executor frozen for 2 s":
                node.send_signal(signal.SIGSTOP)
                time.sleep(2)
                node.send_signal(signal.SIGCONT)
            elif fault == "executor told to leave":
                ended_before = node.poll()
                node.send_signal(signal.SIGTERM)
                code = node.wait(timeout=120)
                if code != 0:
                    when = "before it was told to leave" if ended_before is not None else "when it was told to leave"
                    said = (self.cluster.folder / f"executor{number}.log").read_text().splitlines()[-8:]
                    self.problems.append("\n".join([f"executor {number} ended with {code} {when}", *said]))
                self.cluster.nodes[number] = self.cluster.executor(number)
            else:
                kill(self.cluster.process)
                self.cluster.process = self.cluster.scheduler()
            self.faults[fault] += 1


def sample(process):
    folder = pathlib.Path(f"/proc/{process.pid}")
    pages = int((folder / "statm").read_text().split()[1])
    return pages * 4096 / (1 << 20), len(list((folder / "fd").iterdir()))


def follow(soak, quiet_from):
    """Memory and descriptors of executor 3, and of the scheduler once nobody kills it."""
    samples = {"executor 3": [], "scheduler": []}
    while time.monotonic() < soak.ends:
        samples["executor 3"].append(sample(soak.cluster.nodes[3]))
        if time.monotonic() > quiet_from + 5:
            samples["scheduler"].append(sample(soak.cluster.process))
        time.sleep(1)
    return samples


def told(name, samples):
    tenth = max(1, len(samples) // 10)
    parts = [samples[at:at + tenth] for at in range(0, len(samples), tenth)][:10]
    memory = " ".join(f"{sum(resident for resident, _ in part) / len(part):.0f}" for part in parts)
    descriptors = " ".join(f"{sum(open_ for _, open_ in part) / len(part):.0f}" for part in parts)
    print(f"{name}: resident MiB by tenths {memory}; descriptors {descriptors}", flush=True)


def main():
    data, minutes = pathlib.Path(sys.argv[1]).resolve(), float(sys.argv[2]) if len(sys.argv) > 2 else 30
    texts = [(QUERIES / f"q{number:02}.sql").read_text() for number in range(1, 23)]
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(pathlib.Path(folder))
        try:
            started(cluster, executors=3, expiry=f"{EXPIRY}s")
            for table in TABLES:
                cluster.sql(f"CREATE EXTERNAL TABLE {table} STORED AS PARQUET LOCATION '{data}/{table}.parquet'")
            oracle = Session(cluster, "oracle", timeout=600)
            expected = [sorted(map(str, oracle.run(text))) for text in texts]
            begins = time.monotonic()
            soak = Soak(cluster, texts, expected, begins + minutes * 60)
            quiet_from = begins + minutes * 30
            threads = [threading.Thread(target=soak.session, args=(number,), daemon=True) for number in range(SESSIONS)]
            threads.append(threading.Thread(target=soak.break_things, args=(quiet_from,), daemon=True))
            for thread in threads:
                thread.start()
            samples = follow(soak, quiet_from)
            for thread in threads:
                thread.join(timeout=200)
            hung = [f"Q{at + 1}" for _, at in soak.since.values()]
            print(f"{minutes:g} min, {dict(soak.faults)}; queries {dict(soak.outcomes)}, hung {len(hung)}; asked again {soak.asked_again} times")
            for name, of_it in samples.items():
                told(name, of_it)
            for problem in soak.problems + hung:
                print(problem)
            # Results whose readers were cut off while their end was written down are kept until they expire.
            time.sleep(EXPIRY)
            nothing_is_left(cluster, 3)
            told("executor 3 at rest", [sample(cluster.nodes[3])])
            told("scheduler at rest", [sample(cluster.process)])
            print("nothing is left")
            sys.exit(1 if soak.problems or hung else 0)
        finally:
            cluster.stop()


if __name__ == "__main__":
    main()
