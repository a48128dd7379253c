"""A network of namespaces on this machine, of which links can be cut and slowed down. Needs the privilege to make them."""

import os
import subprocess

from conftest import Cluster, free_port

PREFIX = "10.77.0"
NOWHERE = "02:00:00:00:00:ff"


def run(*command):
    subprocess.run(command, check=True, capture_output=True)


class Network:
    """A switch, to which this process and each node are connected."""

    def __init__(self):
        self.name = f"v{os.getpid() % 100000}"
        self.nodes = {}
        run("ip", "link", "add", "name", self.name, "type", "bridge")
        run("ip", "address", "add", f"{PREFIX}.1/24", "dev", self.name)
        run("ip", "link", "set", self.name, "up")

    def node(self, name):
        """Makes a node; its address."""
        number = len(self.nodes) + 2
        space, here, there = f"{self.name}{name}", f"{self.name}h{number}", f"{self.name}n{number}"
        run("ip", "netns", "add", space)
        run("ip", "link", "add", here, "type", "veth", "peer", "name", there)
        run("ip", "link", "set", here, "master", self.name, "up")
        run("ip", "link", "set", there, "netns", space)
        for command in (["address", "add", f"{PREFIX}.{number}/24", "dev", there], ["link", "set", there, "up"], ["link", "set", "lo", "up"]):
            run("ip", "-n", space, *command)
        self.nodes[name] = (space, there, f"{PREFIX}.{number}")
        return f"{PREFIX}.{number}"

    def within(self, name):
        """What a command begins with that runs on a node."""
        return ["ip", "netns", "exec", self.nodes[name][0]]

    def cut(self, one, other):
        """Nothing that one of two nodes sends reaches the other: frames go to nobody, and nobody is told."""
        for here, there in ((one, other), (other, one)):
            space, device, _ = self.nodes[here]
            run("ip", "-n", space, "neighbour", "replace", self.nodes[there][2], "lladdr", NOWHERE, "dev", device, "nud", "permanent")

    def mend(self, one, other):
        for here, there in ((one, other), (other, one)):
            space, device, _ = self.nodes[here]
            run("ip", "-n", space, "neighbour", "del", self.nodes[there][2], "dev", device)

    def isolate(self, name):
        """Nothing reaches a node, and nothing comes from it."""
        run("ip", "link", "set", self.host_end(name), "down")

    def rejoin(self, name):
        run("ip", "link", "set", self.host_end(name), "up")

    def host_end(self, name):
        return self.nodes[name][1].replace(f"{self.name}n", f"{self.name}h")

    def slow(self, name, rate):
        """What a node sends goes at this rate, such as 20mbit."""
        space, device, _ = self.nodes[name]
        run("ip", "netns", "exec", space, "tc", "qdisc", "replace", "dev", device, "root", "tbf", "rate", rate, "burst", "64k", "latency", "200ms")

    def close(self):
        for space, _, _ in self.nodes.values():
            subprocess.run(["ip", "netns", "del", space], capture_output=True)
        subprocess.run(["ip", "link", "del", self.name], capture_output=True)


class NetworkCluster(Cluster):
    """A scheduler beside the switch, and each executor on a node of its own."""

    def __init__(self, folder):
        super().__init__(folder)
        self.network = Network()
        self.address = f"{PREFIX}.1:{free_port()}"

    def executor(self, number, slots=1, memory="2GiB", fail_point=None):
        name = f"e{number}"
        address = self.network.node(name) if name not in self.network.nodes else self.network.nodes[name][2]
        return self.start(
            f"executor{number}", "executor", "--scheduler", f"http://{self.address}", "--listen", f"{address}:50061",
            "--slots", str(slots), "--memory", memory, "--work-dir", self.folder / f"work{number}",
            fail_point=fail_point, within=self.network.within(name),
        )

    def stop(self):
        for name in self.network.nodes:
            self.network.rejoin(name)
        super().stop()
        self.network.close()
