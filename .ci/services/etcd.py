"""An etcd of one or more members, on loopback."""

import json
import shutil
import signal
import subprocess

from conftest import free_port, wait_until


class Member:
    def __init__(self, folder, number):
        self.folder, self.name = folder, f"m{number}"
        self.address = f"127.0.0.1:{free_port()}"
        self.peers = f"http://127.0.0.1:{free_port()}"
        self.log = open(folder / f"etcd-{self.name}.log", "ab")
        self.process = None

    def start(self, cluster):
        clients = f"http://{self.address}"
        self.process = subprocess.Popen([
            "etcd", "--name", self.name, "--data-dir", self.folder / f"etcd-{self.name}", "--initial-cluster", cluster,
            "--listen-client-urls", clients, "--advertise-client-urls", clients,
            "--listen-peer-urls", self.peers, "--initial-advertise-peer-urls", self.peers,
        ], stdout=self.log, stderr=self.log)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            self.process.wait(timeout=15)
        self.log.close()


class Etcd:
    def __init__(self, folder, members=1):
        if not shutil.which("etcd"):
            raise RuntimeError("etcd has to be on the PATH: apt-get install etcd-server")
        self.members = [Member(folder, number) for number in range(members)]
        self.cluster = ",".join(f"{member.name}={member.peers}" for member in self.members)
        self.user = None
        for member in self.members:
            member.start(self.cluster)
        wait_until("etcd", self.is_healthy)

    @property
    def location(self):
        """What stands behind etcd:// for schedulers."""
        user = f"{self.user}@" if self.user else ""
        return user + ",".join(member.address for member in self.members)

    def control(self, *command, member=None):
        members = [member] if member else self.members
        endpoints = ",".join(f"http://{member.address}" for member in members)
        user = ["--user", self.user] if self.user else []
        return subprocess.run(["etcdctl", f"--endpoints={endpoints}", *user, *command], capture_output=True, text=True)

    def is_healthy(self):
        return all(self.control("endpoint", "health", member=member).returncode == 0 for member in self.members)

    def protect(self, password):
        """From now on etcd wants a name and a password."""
        for command in (["user", "add", f"root:{password}"], ["user", "grant-role", "root", "root"], ["auth", "enable"]):
            done = self.control(*command)
            assert done.returncode == 0, done.stderr
        self.user = f"root:{password}"

    def leader(self):
        """The member that leads; `None` while they elect one."""
        for member in self.members:
            asked = self.control("endpoint", "status", "-w", "json", member=member) if member.process.poll() is None else None
            if asked and asked.returncode == 0:
                status = json.loads(asked.stdout)[0]["Status"]
                if status["leader"] and status["leader"] == status["header"]["member_id"]:
                    return member
        return None

    def restart(self, member):
        member.start(self.cluster)
        wait_until("etcd", self.is_healthy)

    def signal(self, number):
        for member in self.members:
            member.process.send_signal(number)

    def stop(self):
        for member in self.members:
            member.stop()
