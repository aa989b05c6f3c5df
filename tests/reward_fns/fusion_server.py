"""A server with Sandbox Fusion's API that runs programs, or misbehaves as a test requires."""

import base64
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

KEPT = 1 << 20  # of a program's output


def run_code(request):
    """Run a program as the real server does, without its isolation."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "program.py"
        path.write_text(request["code"])
        command = [sys.executable, str(path)]
        result = {"status": "Finished", "return_code": None}
        try:
            ended = subprocess.run(
                command,
                input=request["stdin"].encode(),
                capture_output=True,
                timeout=request["run_timeout"],
                cwd=folder,
            )
            output, errors, result["return_code"] = ended.stdout, ended.stderr, ended.returncode
        except subprocess.TimeoutExpired as error:
            result["status"] = "TimeLimitExceeded"
            output, errors = error.stdout or b"", error.stderr or b""
    result["stdout"] = output[:KEPT].decode(errors="replace")
    result["stderr"] = errors[:KEPT].decode(errors="replace")
    status = "Success" if result["return_code"] == 0 else "Failed"
    return {"status": status, "message": "", "compile_result": None, "run_result": result}


def seem_to_run(request):
    """Answer at once, as if a program had set y to 1, for clients with short timeouts."""
    result = {"status": "Finished", "return_code": 0, "stdout": 'started\n= {"y": 1}\n'}
    return {"status": "Success", "message": "", "run_result": {**result, "stderr": ""}}


class FusionServer:
    """Server that answers each request with the next of `faults`; without one it runs the program.

    Attributes:
        faults: Functions of the handler; each answers one request.
        crash: Part of a program with which the server always fails, by `fault`.
        fault: Function of the handler that answers such a request.
        run: Function that runs a program and returns the API's answer.
        asked: Bodies of all requests, oldest first.
        most: Largest number of concurrent requests so far.
        url: The server's address.
    """

    def __init__(self, *faults):
        self.faults = deque(faults)
        self.crash = None
        self.fault = status(500)
        self.run = run_code
        self.asked = []
        self.open = self.most = 0
        self.lock = threading.Lock()
        self.url = ""

    def answer(self, handler):
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        request = json.loads(body)
        with self.lock:
            self.asked.append(request)
            self.open += 1
            self.most = max(self.most, self.open)
            fault = self.faults.popleft() if self.faults else None
        if self.crash is not None and self.crash in base64.b64decode(request["stdin"]):
            fault = self.fault
        try:
            if fault is None:
                send(handler, json.dumps(self.run(request)).encode())
            else:
                fault(handler)
        except OSError:  # the client has disconnected
            pass
        finally:
            with self.lock:
                self.open -= 1

    @contextmanager
    def running(self):
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                server.answer(self)

            def log_message(self, *arguments):
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
            self.url = f"http://127.0.0.1:{listening.server_port}/run_code"
            # Clients that disconnect are expected here.
            listening.handle_error = lambda request, address: None
            thread = threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True)
            thread.start()
            try:
                yield self
            finally:
                listening.shutdown()


def send(handler, body, code=200, length=None, **headers):
    handler.send_response(code)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def status(code, **headers):
    """Answer with an HTTP status."""
    return lambda handler: send(handler, b"no", code, **headers)


def saying(body):
    """Answer with a body, as JSON unless it is bytes."""
    return lambda handler: send(handler, body if type(body) is bytes else json.dumps(body).encode())


def half(handler):
    """End in the middle of an answer."""
    body = b'{"status": "Success", "run_resu'
    send(handler, body, length=10 * len(body))
    handler.close_connection = True


def nothing(handler):
    """Close the connection without an answer."""
    handler.close_connection = True


def hang(handler):
    """Answer only after a long time."""
    time.sleep(2.5)
    handler.close_connection = True


def drip(handler):
    """Answer one byte at a time, without end."""
    send(handler, b"{", length=1 << 20)
    for _ in range(200):
        handler.wfile.write(b" ")
        time.sleep(0.05)
    handler.close_connection = True


def flood(handler):
    """Answer with more than any run prints."""
    send(handler, b" " * (9 << 20))


FAULTS = {
    "500": status(500),
    "502": status(502),
    "504": status(504),
    "half an answer": half,
    "no answer": nothing,
    "hangs": hang,
    "drips": drip,
    "floods": flood,
    "no JSON": saying(b"<html>"),
    "no object": saying([1]),
    "half an object": saying({"status": "Success"}),
    "no result": saying({"status": "Success", "message": "", "run_result": None}),
    "nested": saying(b"[" * 100_000),
    "SandboxError": saying({"status": "SandboxError", "message": "no fork", "run_result": None}),
    "Error": saying({"status": "Failed", "message": "", "run_result": {"status": "Error"}}),
}
