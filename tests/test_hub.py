"""A base on the hub, from a server on this machine that answers as the hub does."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import yaml

from concertina import config
from concertina.artefacts import dag, keys
from concertina.artefacts.standing import Standing
from concertina.model import lalm
from concertina.store import sealing
from helpers.project_copy import copy_project, python, snakemake
from helpers.tiny_model import PROMPTS, make

MODEL, COMMIT = "org/Small-LALM", "c0ffee" * 6 + "c0ff"
FOLDER = Path("downloads/hub/org--Small-LALM")


@dataclass
class Hub:
    """One model's files by name; `cut`: large files whose first answer ends after so many bytes."""

    files: dict[str, bytes]
    cut: dict[str, int] = field(default_factory=dict)
    lies: set[str] = field(default_factory=set)
    status: int = 200
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def info(self) -> bytes:
        siblings = []
        for name, content in self.files.items():
            entry: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": git_hash(content)}
            if name.endswith((".safetensors", ".bin")):
                entry["lfs"] = {"size": len(content), "sha256": sha256(content), "pointerSize": 100}
            siblings.append(entry)
        card = {"license": "apache-2.0"}
        return json.dumps({"id": MODEL, "sha": COMMIT, "siblings": siblings, "cardData": card, "tags": []}).encode()


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def serving(served: Hub) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            served.asked.append(f"{self.command} {self.path} {self.headers['Range'] or ''}")
            if served.status != 200:
                self.send_response(served.status)
                code = {401: "GatedRepo", 404: "RepoNotFound"}[served.status]
                self.send_header("X-Error-Code", code)
                self.send_header("Content-Length", "0")
                self.end_headers()
            elif self.path.startswith("/api/models/"):
                self.reply(served.info(), {"Content-Type": "application/json"}, body)
            elif match := re.fullmatch(rf"/{MODEL}/resolve/{COMMIT}/(.+)", self.path):
                self.file(match[1], body)
            else:
                self.send_error(404)

        def file(self, name: str, body: bool) -> None:
            content = served.files[name]
            large = name.endswith(".safetensors")
            etag = sha256(content) if large else git_hash(content)
            head = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            if large:
                head |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content))}
            self.reply(b"?" * len(content) if name in served.lies else content, head, body, name)

        def reply(self, content: bytes, head: dict[str, str], body: bool, name: str = "") -> None:
            asked = self.headers["Range"]
            begin = int(re.findall(r"\d+", asked)[0]) if asked else 0
            self.send_response(206 if begin else 200)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
            for key, value in head.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content) - begin))
            self.end_headers()
            if body:
                upto = served.cut.pop(name, None)
                self.wfile.write(content[begin:][:upto])
                if upto is not None:
                    self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        served.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield served
        finally:
            server.shutdown()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("model")
    make(folder)
    held = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    other = {"training_args.bin": b"pickle", "x.onnx": b"x", "original/model.safetensors": b"another format"}
    return {**held, "README.md": b"---\nlicense: apache-2.0\n---\n", **other}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project's folder whose config names the model at a branch."""
    base = {"model": MODEL, "revision": "main", "prompts": PROMPTS}
    (tmp_path / "config.yaml").write_text((Path(__file__).parent.parent / "config.yaml").read_text(encoding="utf-8"))
    (tmp_path / "hub.yaml").write_text(yaml.safe_dump({"name": "far", "base": base}), encoding="utf-8")
    return tmp_path


def fetch(
    folder: Path,
    url: str,
    *,
    model: str = MODEL,
    revision: str = "main",
    run: tuple[str, ...] = ("-m", "concertina.base", "hub"),
) -> tuple[int, str]:
    """The stage as a user runs it; its exit code and what it said."""
    web = {"HF_ENDPOINT": url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(folder / "home"), "HF_HUB_ETAG_TIMEOUT": "3"}
    command = [sys.executable, *run, "--config", "hub.yaml", "--model", model, "--revision", revision]
    done = subprocess.run(command, cwd=folder, env=os.environ | web, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_a_model_is_fetched_sealed_read_and_never_asked_for_again(
    folder: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(Hub(files)) as served:
        status, told = fetch(folder, served.url)
    assert status == 0, told
    assert f"to pin it, set `revision: {COMMIT}`" in told
    seal = sealing.verify(folder / FOLDER / "main")
    assert (seal["commit"], seal["licence"]) == (COMMIT, "apache-2.0")
    assert "model.safetensors" in seal["files"]
    assert not {"training_args.bin", "x.onnx", "original/model.safetensors"} & seal["files"].keys()
    monkeypatch.chdir(folder)
    chosen = config.load("hub.yaml")
    model = lalm.load(chosen.base, encoder=True, llm=True)
    assert lalm.prompt_ids(model, chosen.base, "transcribe", "en", None)
    text = (folder / "hub.yaml").read_text(encoding="utf-8")
    (folder / "hub.yaml").write_text(text.replace("<|transcribe|><|{source}|>", "<|transcribe|><|in_{source}|>"))
    status, told = fetch(folder, served.url)
    assert (status, told.count("Traceback")) == (1, 0)
    assert f"error: base.prompts.transcribe: {MODEL} has no token <|in_en|>; does it know this language?" in told
    (folder / "hub.yaml").write_text(text, encoding="utf-8")
    (folder / FOLDER / "main/seal.json").unlink()
    status, told = fetch(folder, "http://127.0.0.1:9")
    assert status == 0, told
    assert "is there already" in told
    sealing.verify(folder / FOLDER / "main")


@pytest.mark.slow
def test_what_was_begun_goes_on_and_what_is_whole_is_not_fetched_twice(folder: Path, files: dict[str, bytes]) -> None:
    large = {**files, "extra.safetensors": os.urandom(24_000_000)}  # the hub's library writes 10 MB at a time
    with serving(Hub(large, cut={"extra.safetensors": 21_000_000})) as served:
        for _ in range(3):
            status, told = fetch(folder, served.url)
            if status == 0:
                break
    assert status == 0, told
    sealing.verify(folder / FOLDER / "main")
    asked = [line for line in served.asked if line.startswith("GET") and "extra.safetensors" in line]
    assert "bytes=" in asked[-1], asked
    assert sum("GET" in line and line.rstrip().endswith("tokenizer.json") for line in served.asked) == 1


@pytest.mark.slow
def test_an_interruption_while_it_is_sealed_loses_nothing_and_pinning_fetches_nothing(
    folder: Path, files: dict[str, bytes]
) -> None:
    stop = "import signal; from concertina.fetching import hub; from concertina.store import sealing as integrity; "
    stop += "integrity._publish = lambda *_: signal.raise_signal(signal.SIGTERM); raise SystemExit(hub.main())"
    with serving(Hub(files)) as served:
        assert fetch(folder, served.url, run=("-c", stop))[0] == 130
        assert not (folder / FOLDER / "main").exists()
        status, told = fetch(folder, served.url)
    assert status == 0, told
    assert sum("GET" in line and "model.safetensors" in line for line in served.asked) == 1
    assert not list((folder / FOLDER).glob(".main.part"))
    overlay = {"name": "far", "base": {"model": MODEL, "revision": COMMIT, "prompts": PROMPTS}}
    (folder / "hub.yaml").write_text(yaml.safe_dump(overlay), encoding="utf-8")
    status, told = fetch(folder, "http://127.0.0.1:9", revision=COMMIT)
    assert status == 0, told
    seal = sealing.verify(folder / FOLDER / COMMIT)
    assert (seal["commit"], seal["licence"]) == (COMMIT, "apache-2.0")
    assert seal["run_key"] == keys.run_key(keys.hub_at(MODEL, COMMIT, COMMIT))
    assert "is there already" in fetch(folder, "http://127.0.0.1:9", revision=COMMIT)[1]
    sealing.verify(folder / FOLDER / "main")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_that_is_not_what_the_hub_says_is_refused(folder: Path, files: dict[str, bytes], name: str) -> None:
    with serving(Hub(files, lies={name})) as served:
        status, told = fetch(folder, served.url)
    assert status == 1
    assert re.search(rf"error: {MODEL}: {re.escape(name)} arrived with another", told), told
    assert not (folder / FOLDER / "main").exists()


@pytest.mark.slow
def test_what_cannot_be_had_is_one_clear_line(folder: Path, files: dict[str, bytes]) -> None:
    pickled = {name: content for name, content in files.items() if not name.endswith(".safetensors")}
    with serving(Hub(pickled)) as served:
        assert "has no *.safetensors, and no other weights are read" in fetch(folder, served.url)[1]
    for code, remedy in ((401, "is gated: accept its terms"), (404, "no such model, or it is private")):
        with serving(Hub(files, status=code)) as served:
            status, told = fetch(folder, served.url)
            assert status == 1
            assert remedy in told
    assert "the hub cannot be reached" in fetch(folder, "http://127.0.0.1:9")[1]
    near = f"did you mean '{MODEL} at main'?"
    assert near in fetch(folder, "http://127.0.0.1:9", model="org/Smal-LALM")[1]
    assert near in fetch(folder, "http://127.0.0.1:9", revision="mian")[1]
    text = (folder / "hub.yaml").read_text(encoding="utf-8")
    (folder / "hub.yaml").write_text(text.replace(MODEL, "no/such/id"), encoding="utf-8")
    assert "'no/such/id' is no id of the hub" in fetch(folder, "http://127.0.0.1:9", model="no/such/id")[1]


@pytest.mark.slow
def test_a_run_fetches_the_base_before_what_reads_it(tmp_path: Path) -> None:
    copy_project(tmp_path)
    base = {"model": MODEL, "revision": "main", "prompts": PROMPTS}
    (tmp_path / "far.yaml").write_text(yaml.safe_dump({"name": "far", "base": base}), encoding="utf-8")
    done = snakemake(tmp_path, "-n", "-p", "--config", "experiment=far.yaml")
    told = done.stdout + done.stderr
    assert f"base_hub {MODEL.replace('/', '--')}/main" in told
    assert "python -m concertina.base hub --config far.yaml --model" in told
    jobs = re.findall(r"^Job \d+: (\w+)", told, flags=re.MULTILINE)
    assert jobs.index("base_hub") < jobs.index("features")


@pytest.mark.slow
def test_the_tools_know_a_base_that_is_not_there_yet_and_one_that_is_damaged(tmp_path: Path) -> None:
    copy_project(tmp_path)
    base = {"model": MODEL, "revision": "main", "prompts": PROMPTS, "four_bit": True}
    (tmp_path / "far.yaml").write_text(yaml.safe_dump({"name": "far", "base": base}), encoding="utf-8")
    planned = python(tmp_path, "-m", "tools.plan", "--config", "experiment=far.yaml").stdout
    assert re.search(r"^base_hub +1 +\S+ +16\.8 GB .* new$", planned, flags=re.MULTILINE), planned
    assert "How long base_hub takes depends on the network." in planned
    told = python(tmp_path, "-m", "tools.doctor", "--config", "experiment=far.yaml").stdout
    assert f"ok   model: {FOLDER}/main: a run fetches or assembles it" in told
    assert torch.cuda.is_available() or "FAIL base.four_bit: it needs a CUDA GPU" in told
    with sealing.sealed(tmp_path / FOLDER / "main", {"run_key": "0" * 16}) as temporary:
        make(temporary)
    weights = tmp_path / FOLDER / "main/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    remedy = f'rm -rf {FOLDER}/main && make reproduce CONFIG=far.yaml ONLY="{FOLDER}/main/seal.json"'
    assert remedy in python(tmp_path, "-m", "tools.verify", "--config", "far.yaml").stderr
    weights.unlink()
    told = python(tmp_path, "-m", "tools.doctor", "--config", "experiment=far.yaml").stdout
    assert f"remove {FOLDER}/main, and a run makes it again" in told


def test_what_rests_on_a_pinned_commit_belongs_before_the_base_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    for revision, known in ((COMMIT, True), ("main", False)):
        overlay = {"name": "far", "base": {"model": MODEL, "revision": revision, "prompts": PROMPTS}}
        Path("far.yaml").write_text(yaml.safe_dump(overlay), encoding="utf-8")
        chosen = config.load("far.yaml")
        base = keys.run_key(keys.hub_at(MODEL, revision, COMMIT))
        speech = keys.run_key(keys.data(chosen, "synthetic", "dev"))
        frames = dag.artefact(chosen, "features", corpus="synthetic", split="dev")
        sealed = keys.run_key(dag.key(chosen, frames), [speech, base])
        with sealing.sealed(frames.folder, {"run_key": sealed}) as temporary:
            (temporary / "x").write_bytes(b"x")
        assert Standing(chosen).belongs(frames) == known
        assert (frames in [stranger.artefact for stranger in Standing(chosen).strangers()]) != known
