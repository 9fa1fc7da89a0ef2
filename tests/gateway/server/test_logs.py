"""One JSON line an event, whoever says it and however long it is."""

import json
import subprocess
import sys

import pytest

from gateway.server import logs
from gateway.server.logs import truncate

CHATTER = """
import asyncio, logging, sys, threading
from pathlib import Path
import structlog
from gateway.server.logs import log_json

log_json(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
log = structlog.get_logger()

def fail():
    raise ValueError("two\\nlines")

log.info("own", model="m" * 10**6)
try:
    fail()
except ValueError:
    log.exception("caught")
    logging.getLogger("grpc").exception("theirs %s", "x" * 10**6)
thread = threading.Thread(target=fail)
thread.start()
thread.join()

class Unraisable:
    def __del__(self):
        fail()

Unraisable()

async def forget():
    async def broken():
        fail()
    task = asyncio.create_task(broken())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task

asyncio.run(forget())
fail()
"""


def chatter(*arguments):
    return subprocess.run(
        [sys.executable, "-c", CHATTER, *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("to_file", [False, True])
def test_every_event_is_one_json_line(tmp_path, to_file):
    file = tmp_path / "gateway.log"
    said = chatter(*([str(file)] if to_file else []))
    assert said.returncode == 1
    assert not to_file or not said.stderr
    text = file.read_text() if to_file else said.stderr
    entries = [json.loads(line) for line in text.splitlines()]
    events = [entry["event"] for entry in entries]
    assert events[:2] == ["own", "caught"]
    assert events[2].startswith("theirs xxx")
    assert events.count("uncaught exception") == 3
    assert any("Task exception was never retrieved" in event for event in events)
    assert all("two\nlines" in entry["exception"] for entry in entries[1:])
    assert max(map(len, text.splitlines())) < 4000
    assert entries[0]["model"].endswith("(1000000 characters)")


def test_values_are_cut_and_say_so():
    line = {"event": "e", "text": "ä" * 201, "short": "s" * 200, "many": list(range(999)), "n": 1.5}
    cut = truncate(None, "info", line)
    assert cut["text"] == "ä" * 200 + " … (201 characters)"
    assert (cut["short"], cut["n"]) == ("s" * 200, 1.5)
    assert len(cut["many"]) < 250


def test_of_an_exception_the_end_is_kept():
    cut = truncate(None, "error", {"event": "e", "exception": "a" * 9000 + "ValueError: last"})
    assert "ValueError: last" in cut["exception"]
    assert len(cut["exception"]) < 8100


def test_a_file_rotates_by_size(tmp_path):
    file = tmp_path / "gateway.log"
    script = CHATTER.split("def fail")[0].replace(
        "log_json(", "from gateway.server import logs\nlogs.FILE_BYTES = 1000\nlog_json("
    )
    script += "\nfor k in range(100): log.info('x' * 100, k=k)\n"
    subprocess.run([sys.executable, "-c", script, str(file)], check=True)
    kept = sorted(tmp_path.iterdir())
    assert len(kept) == 1 + logs.OLD_FILES
    assert all(path.stat().st_size <= 1000 for path in kept)
    assert json.loads(file.read_text().splitlines()[-1])["k"] == 99
