"""`kandinsky lock`, and what the hub does not give, against a server that speaks as it does."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from kandinsky.catalog import lock
from kandinsky.catalog.catalog import Catalog
from kandinsky.catalog.entry import CatalogError
from kandinsky.catalog.family import Stage

FIRST, SECOND = "a" * 40, "b" * 40
ENTRY = """\
name: ours
description: A model on the hub.
family: kandinsky-2-2
stages:
  encoders: {{weights: {{hub: us/prior, revision: main}}}}
  prior: {{weights: {{hub: us/prior, revision: main}}}}
  decoder: {{weights: {{hub: {decoder}, revision: {revision}}}}}
size: {{height: 64, width: 64, min: 64, max: 128}}
"""


class Hub(BaseHTTPRequestHandler):
    """Answers what the hub answers about repositories."""

    commits: ClassVar[dict[str, str]] = {}
    size: ClassVar[int] = 10
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        *_, owner, name, _, revision = ["", "", "", *self.path.split("?")[0].split("/")]
        repository = f"{owner}/{name}"
        if repository == "us/gated":
            self._answer(403, {"error": "gated"}, "GatedRepo")
        elif repository not in ("us/prior", "us/decoder"):
            self._answer(404, {"error": "no such repository"}, "RepoNotFound")
        elif revision not in self.commits:
            self._answer(404, {"error": "no such revision"}, "RevisionNotFound")
        else:
            self.asked.append(repository)
            files = [
                {"rfilename": "unet/diffusion_pytorch_model.safetensors", "size": self.size},
                {"rfilename": "prior/diffusion_pytorch_model.safetensors", "size": self.size},
            ]
            info = {"id": repository, "sha": self.commits[revision], "siblings": files}
            self._answer(200, info)

    def _answer(self, status: int, body: dict[str, Any], code: str = "") -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.commits, Hub.size, Hub.asked = {"main": FIRST}, 10, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def write(folder: Path, decoder: str = "us/decoder", revision: str = "main") -> Path:
    (folder / "ours.yaml").write_text(ENTRY.format(decoder=decoder, revision=revision))
    return folder


def command(hub: str, folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "kandinsky", *words, "--catalog", str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        env={
            **os.environ,
            "HF_ENDPOINT": hub,
            "HF_HOME": str(folder / "cache"),
            "XDG_RUNTIME_DIR": str(folder),
        },
    )


def commits(folder: Path) -> dict[str, str]:
    return yaml.safe_load((folder / lock.NAME).read_text())


def test_each_revision_is_written_down_and_served(hub: str, tmp_path: Path) -> None:
    done = command(hub, write(tmp_path), "lock")
    assert done.returncode == 0, done.stderr
    assert commits(tmp_path) == {"us/decoder@main": FIRST, "us/prior@main": FIRST}
    entry = Catalog.load((tmp_path,))["ours"]
    assert {
        checkpoint.revision for stage in Stage for checkpoint in entry.checkpoints(stage).values()
    } == {FIRST}
    assert not lock.moving(entry)


def test_what_has_moved_is_said_and_only_lock_follows_it(hub: str, tmp_path: Path) -> None:
    command(hub, write(tmp_path), "lock")
    assert command(hub, tmp_path, "lock", "--check").returncode == 0
    Hub.commits = {"main": SECOND}
    checked = command(hub, tmp_path, "lock", "--check")
    assert checked.returncode == 1
    assert f"us/prior@main is {SECOND}, was {FIRST}" in checked.stdout
    assert commits(tmp_path)["us/prior@main"] == FIRST
    command(hub, tmp_path, "lock")
    assert commits(tmp_path)["us/prior@main"] == SECOND


def test_a_commit_stays_what_it_is(hub: str, tmp_path: Path) -> None:
    command(hub, write(tmp_path, revision=SECOND), "lock")
    assert commits(tmp_path) == {"us/prior@main": FIRST}


FAULTS = {
    "a missing repository": ({"decoder": "us/none"}, "the hub has no repository us/none"),
    "a gated one": ({"decoder": "us/gated"}, "us/gated is gated: accept its terms"),
    "a wrong revision": ({"revision": "v9"}, "us/decoder has no revision v9"),
}


@pytest.mark.parametrize("words", [("lock",), ("up", "--model", "ours", "--port", "0")], ids=str)
@pytest.mark.parametrize(("entry", "said"), FAULTS.values(), ids=FAULTS)
def test_what_the_hub_has_not_is_one_sentence(
    hub: str, tmp_path: Path, entry: dict[str, str], said: str, words: tuple[str, ...]
) -> None:
    done = command(hub, write(tmp_path, **entry), *words)
    assert done.returncode == 1
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [("lock",), ("up", "--model", "ours", "--port", "0")], ids=str)
def test_no_network_is_one_sentence(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = command("http://127.0.0.1:9", write(tmp_path), *words)
    assert done.returncode == 1
    assert "the hub cannot be " in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_too_little_disk_for_all_of_them_is_one_sentence(hub: str, tmp_path: Path) -> None:
    Hub.size = shutil.disk_usage(tmp_path).free * 2 // 3  # of each of the two
    done = command(hub, write(tmp_path), "up", "--model", "ours", "--port", "0")
    said = " ".join(done.stderr.split())
    assert done.returncode == 1
    assert "us/prior, us/decoder take" in said and "GiB are free there" in said
    assert sorted(Hub.asked) == ["us/decoder", "us/prior"], "each is asked once"


@pytest.mark.parametrize("text", ["- a list", "us/prior@main: main", "us/prior@main: ["])
def test_a_broken_lock_is_one_sentence(tmp_path: Path, text: str) -> None:
    (write(tmp_path) / lock.NAME).write_text(text)
    with pytest.raises(CatalogError, match=r"hub\.lock"):
        Catalog.load((tmp_path,))
