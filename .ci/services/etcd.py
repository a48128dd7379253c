"""An etcd of one member, on loopback."""

import shutil
import signal
import subprocess

from conftest import free_port, wait_until


class Etcd:
    def __init__(self, folder):
        if not shutil.which("etcd"):
            raise RuntimeError("etcd has to be on the PATH: apt-get install etcd-server")
        self.address = f"127.0.0.1:{free_port()}"
        peers = f"http://127.0.0.1:{free_port()}"
        clients = f"http://{self.address}"
        self.log = open(folder / "etcd.log", "ab")
        self.process = subprocess.Popen([
            "etcd", "--data-dir", folder / "etcd", "--listen-client-urls", clients, "--advertise-client-urls", clients,
            "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", f"default={peers}",
        ], stdout=self.log, stderr=self.log)
        wait_until("etcd", self.is_healthy)

    def is_healthy(self):
        asked = subprocess.run(["etcdctl", f"--endpoints=http://{self.address}", "endpoint", "health"], capture_output=True)
        return asked.returncode == 0

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.wait(timeout=15)
        self.log.close()
