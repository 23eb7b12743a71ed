"""A W&B server on loopback, as much of one as a client needs to start, resume and finish a run."""

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

ENTITY = "someone"


@dataclass
class ServedRun:
    """One run as the server has it. `history` is a file of rows that clients write at offsets."""

    config: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None


class WandbServer(ThreadingHTTPServer):
    """Holds runs by id. `refuse`: answers every request with a fault from then on."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.runs: dict[str, ServedRun] = {}
        self.refuse = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        """What a GraphQL operation of the client's gets."""
        name = variables.get("name", "")
        if operation == "Viewer":
            return {
                "viewer": {
                    "id": "1",
                    "entity": ENTITY,
                    "username": ENTITY,
                    "flags": "{}",
                    "teams": {"edges": []},
                }
            }
        if operation == "RunResumeStatus":
            run = self.runs.get(name)
            bucket = self._bucket(name, run) if run is not None else None
            return {
                "model": {"id": "1", "name": "p", "entity": {"id": "1", "name": ENTITY}, "bucket": bucket}
            }
        if operation == "UpsertBucket":
            run = self.runs.setdefault(name, ServedRun())
            run.config = json.loads(variables["config"]) if variables.get("config") else run.config
            run.attributes |= {key: value for key, value in variables.items() if value is not None}
            return {"upsertBucket": {"bucket": self._bucket(name, run), "inserted": True}}
        if operation == "CreateRunFiles":
            files = [{"name": file, "uploadUrl": f"{self.url}/storage/{file}"} for file in variables["files"]]
            return {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}
        return {}

    def stream(self, run_id: str, body: dict[str, Any]) -> None:
        """Rows that a client adds to a run's files."""
        run = self.runs[run_id]
        for file, chunk in (body.get("files") or {}).items():
            rows = [json.loads(row) for row in chunk["content"]]
            if file == "wandb-history.jsonl":
                run.history[chunk["offset"] : chunk["offset"] + len(rows)] = rows
            elif file == "wandb-summary.json":
                run.summary = rows[-1]
        if body.get("complete"):
            run.exit_code = body.get("exitcode")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no fault of a test's."""

    def _bucket(self, name: str, run: ServedRun) -> dict[str, Any]:
        project = {"id": "1", "name": "p", "entity": {"id": "1", "name": ENTITY}}
        tail = json.dumps([json.dumps(row) for row in run.history[-1:]])
        return {
            "id": "1",
            "name": name,
            "displayName": name,
            "project": project,
            "config": json.dumps(run.config),
            "summaryMetrics": json.dumps(run.summary),
            "historyLineCount": len(run.history),
            "historyTail": tail,
            "eventsLineCount": 0,
            "eventsTail": "[]",
            "logLineCount": 0,
            "tags": [],
            "wandbConfig": json.dumps({"t": 1}),
        }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WandbServer

    def do_POST(self) -> None:
        body = json.loads(self._body() or b"{}") if "otel" not in self.path else self._body()
        if self.server.refuse:
            self._reply({}, status=503)
        elif self.path == "/graphql":
            operation = body.get("operationName") or body["query"].replace("(", " ").split()[1]
            self._reply({"data": self.server.answer(operation, body.get("variables") or {})})
        elif self.path.endswith("/file_stream"):
            self.server.stream(self.path.split("/")[-2], body)
            self._reply({})
        else:
            self._reply({})

    def do_GET(self) -> None:
        self._reply({})

    def do_PUT(self) -> None:
        self._body()
        self._reply({})

    def log_message(self, *arguments: object) -> None:
        """Quiet."""

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _reply(self, tree: dict[str, Any], status: int = 200) -> None:
        content = json.dumps(tree).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def wandb_server() -> Iterator[WandbServer]:
    server = WandbServer()
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
