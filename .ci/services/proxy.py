"""A TCP proxy between two processes that can reset its connections, and stop reading from them."""

import socket
import struct
import threading

CHUNK = 1 << 16
# Closing with this option set sends a reset, where closing alone would say a farewell.
RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Passes everything on to `target`, a (host, port), until told otherwise."""

    def __init__(self, target):
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.reading, self.answering = threading.Event(), threading.Event()
        self.reading.set()
        self.answering.set()
        self.lock = threading.Lock()
        self.sockets = set()
        self.passed = 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self.target, timeout=5)
                far.settimeout(None)
            except OSError:
                self.drop(near)
                continue
            with self.lock:
                self.sockets |= {near, far}
            for source, sink, passing in ((near, far, self.reading), (far, near, self.answering)):
                threading.Thread(target=self.pump, args=(source, sink, passing), daemon=True).start()

    def pump(self, source, sink, passing):
        try:
            while True:
                passing.wait()
                chunk = source.recv(CHUNK)
                # What was under way when reading stopped stays here.
                passing.wait()
                if not chunk:
                    break
                sink.sendall(chunk)
                self.passed += len(chunk)
        except OSError:
            pass
        self.drop(source)
        self.drop(sink)

    def drop(self, connection):
        with self.lock:
            self.sockets.discard(connection)
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        connection.close()

    def reset(self):
        """Resets every connection; how many there were."""
        with self.lock:
            open_now = list(self.sockets)
        for connection in open_now:
            self.drop(connection)
        return len(open_now)

    def stall(self):
        """Stops reading. New connections are taken, and nothing passes."""
        self.reading.clear()
        self.answering.clear()

    def hold_answers(self):
        """Stops reading what the target sends; what it is sent passes."""
        self.answering.clear()

    def resume(self):
        self.reading.set()
        self.answering.set()

    def close(self):
        self.listener.close()
        self.resume()
        self.reset()
