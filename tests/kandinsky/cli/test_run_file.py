"""How `up`, `down` and `status` find each other."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from kandinsky.cli import run_file
from kandinsky.cli.app import main
from kandinsky.cli.run_file import Running
from tests.kandinsky.declared import app


@pytest.fixture(autouse=True)
def own_run_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture
def sleeper() -> Iterator[Running]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    started = psutil.Process(process.pid).create_time()
    yield Running(process.pid, started, "127.0.0.1:1", ("shapes",))
    process.kill()
    process.wait()


def test_a_claim_is_read_and_released(sleeper: Running) -> None:
    assert run_file.claim(sleeper) is None
    assert run_file.current() == sleeper
    run_file.release(sleeper)
    assert run_file.read() is None
    assert [path.name for path in run_file.folder().iterdir()] == []


def test_a_second_claim_gets_the_first(sleeper: Running) -> None:
    own = Running(os.getpid(), psutil.Process().create_time(), "127.0.0.1:2", ("tiny",))
    run_file.claim(sleeper)
    assert run_file.claim(own) == sleeper
    run_file.release(own)
    assert run_file.current() == sleeper


def test_a_stale_file_is_taken_over(sleeper: Running) -> None:
    number_was_reused = replace(sleeper, started=sleeper.started - 60)
    run_file.claim(number_was_reused)
    assert run_file.current() is None
    assert run_file.claim(sleeper) is None
    assert run_file.current() == sleeper


def test_down_ends_the_process_and_no_other(sleeper: Running) -> None:
    run_file.claim(replace(sleeper, started=sleeper.started - 60))
    assert "nothing is running" in CliRunner().invoke(app, ["down"]).stdout
    run_file.claim(sleeper)
    done = CliRunner().invoke(app, ["down"])
    assert done.exit_code == 0
    assert "ended shapes at 127.0.0.1:1" in done.stdout
    assert run_file.process(sleeper) is None


def test_a_second_up_names_the_first(sleeper: Running) -> None:
    run_file.claim(sleeper)
    done = CliRunner().invoke(app, ["up"])
    assert done.exit_code == 1
    assert done.stderr.strip() == (
        f"kandinsky already runs at 127.0.0.1:1 (process {sleeper.pid}); "
        "end it with `kandinsky down`"
    )


def test_a_file_that_cannot_be_read_is_one_sentence(monkeypatch, capsys) -> None:
    (run_file.folder() / run_file.FILE).mkdir()
    monkeypatch.setattr("sys.argv", ["kandinsky", "models"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    said = capsys.readouterr().err.strip()
    assert run_file.FILE in said
    assert "\n" not in said


def test_a_garbled_file_counts_as_none() -> None:
    (run_file.folder() / run_file.FILE).write_text('{"pid"')
    assert run_file.read() is None


def test_the_folder_is_the_users_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = run_file.folder()
    assert folder == tmp_path / f"kandinsky-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
