"""A server on this machine that answers W&B's client: enough of its GraphQL and file stream to hold runs.

It is a model of the server. What the client sends is real; how the server merges it is written here: a file stream
replaces the lines from its offset on, and a resumed run is told how many lines the server has.
"""

import base64
import gzip
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.fake_secrets import fake

KEY = "5c0e" * 10  # has the form of an API key
LOGIN = {fake("WANDB¦_API_KEY"): KEY}


@dataclass
class StoredRun:
    lines: list[str] = field(default_factory=list)  # of the history
    summary: str = "{}"
    upserts: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    @property
    def properties(self) -> dict[str, Any]:
        """The last value of each property that a client sent."""
        found: dict[str, Any] = {}
        for upsert in self.upserts:
            found |= {name: value for name, value in upsert.items() if value is not None}
        return found

    @property
    def config(self) -> dict[str, Any]:
        stored = json.loads(self.properties["config"])
        return {name: entry["value"] for name, entry in stored.items() if name != "_wandb"}


class Stub:
    """The runs, by id, and the server that holds them; `failures` are answered first, by kind of request."""

    def __init__(self) -> None:
        self.runs: dict[str, StoredRun] = {}
        self.failures: dict[str, list[int]] = {}
        self.keys: set[str] = set()  # that clients logged in with
        self.lock = threading.Lock()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                """Nothing is printed."""

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                is_json = self.headers.get("Content-Type", "").startswith("application/json")
                parsed = json.loads(body) if is_json and body else {}
                user = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode()
                with stub.lock:
                    stub.keys |= {user.partition(":")[2]} - {""}
                    status, answer = stub.answer(self.path, parsed)
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_PUT = do_POST  # noqa: N815

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.variables = {"WANDB_BASE_URL": self.url, **LOGIN}  # the environment of its clients

    def __enter__(self) -> "Stub":
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        kind = "stream" if path.endswith("file_stream") else "graphql" if path.endswith("graphql") else "file"
        if self.failures.get(kind):
            return self.failures[kind].pop(0), {"error": "as the test asked"}
        if kind == "stream":
            return 200, self._stream(path.split("/")[-2], body)
        return 200, self._graphql(body) if kind == "graphql" else {}

    def _stream(self, run_id: str, body: dict[str, Any]) -> dict[str, Any]:
        run = self.runs[run_id]
        for name, chunk in (body.get("files") or {}).items():
            if name == "wandb-history.jsonl":
                run.lines[chunk["offset"] :] = chunk["content"]
            elif name == "wandb-summary.json":
                run.summary = chunk["content"][-1]
        if body.get("complete"):
            run.exit_code = body["exitcode"]
        return {}

    def _graphql(self, body: dict[str, Any]) -> dict[str, Any]:
        query, variables = body["query"], body.get("variables") or {}
        if "mutation UpsertBucket" in query:
            run_id = variables.get("name") or variables["id"]
            run = self.runs.setdefault(run_id, StoredRun())
            run.upserts.append(variables)
            project = {"name": variables["project"], "entity": {"name": variables.get("entity") or "me"}}
            bucket = {
                "id": run_id, "name": run_id, "displayName": variables.get("displayName"), "description": None,
                "config": variables.get("config"), "sweepName": None, "project": project,
                "historyLineCount": len(run.lines),
            }  # fmt: skip
            return {"data": {"upsertBucket": {"bucket": bucket, "inserted": len(run.upserts) == 1}}}
        if "query RunResumeStatus" in query:
            run = self.runs.get(variables["name"])
            bucket = run and {
                "id": variables["name"], "name": variables["name"], "summaryMetrics": run.summary, "tags": [],
                "displayName": run.properties.get("displayName"), "logLineCount": 0, "eventsLineCount": 0,
                "historyLineCount": len(run.lines), "config": run.properties.get("config"), "eventsTail": "[]",
                "historyTail": json.dumps(run.lines[-1:]), "wandbConfig": json.dumps({"t": {}}),
            }  # fmt: skip
            return {"data": {"model": {"id": "p", "name": "p", "entity": {"name": "me", "id": "e"}, "bucket": bucket}}}
        if "CreateRunFiles" in query:
            files = [{"name": name, "uploadUrl": f"{self.url}/put/{name}"} for name in variables["files"]]
            return {"data": {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}}
        if "Viewer" in query:
            return {"data": {"viewer": {"id": "v", "entity": "me", "username": "me", "flags": "{}"}}}
        if "ServerFeatures" in query or "ServerInfo" in query:
            return {"data": {"serverInfo": {"features": [], "cliVersionInfo": {"max_cli_version": "9"}}}}
        return {"data": {}}
