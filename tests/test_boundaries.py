"""Imports go one way, and the client and the gateway never load what only stages need."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "diffusers", "transformers", "ray")

STAGES = ("services.encoders", "services.prior", "services.decoder")
CLIENT = ("kandinsky.client", "kandinsky.cli")

# What the files of a folder must not import, by the start of the module's name.
FORBIDDEN = {
    "kandinsky": ("services", "gateway"),
    "gateway": ("services", *HEAVY),
    "services/device": (
        *("services.engine", "services.samplers", "services.diffusion", "services.loading"),
        *("services.transport", "services.local", "gateway", "diffusers", "transformers", "ray"),
        *("kandinsky", *STAGES),
    ),
    "services/engine": (
        *("services.samplers", "services.diffusion", "services.loading", "services.transport"),
        *("services.local", "gateway", "diffusers", "transformers", "ray", "kandinsky.v1"),
        *(*STAGES, *CLIENT),
    ),
    "services/samplers": (
        *("services.engine", "services.diffusion", "services.loading", "services.transport"),
        *("services.local", "gateway", "transformers", "ray", "kandinsky.v1", *STAGES, *CLIENT),
    ),
    "services/loading": (
        *("services.engine", "services.samplers", "services.diffusion", "services.transport"),
        *("services.local", "gateway", "ray", "kandinsky.v1", *STAGES, *CLIENT),
    ),
    "services/adapters": (
        *("services.engine", "services.samplers", "services.diffusion", "services.loading"),
        *("services.transport", "services.local", "gateway", "ray", *STAGES, *CLIENT),
    ),
    "services/diffusion": (
        *("services.transport", "services.local", "gateway", "ray", "kandinsky.v1"),
        *(*STAGES, *CLIENT),
    ),
    "services/transport": (*("services.diffusion", "services.local", "gateway", *STAGES, *CLIENT),),
    "services/encoders": (
        *("services.engine", "services.samplers", "services.diffusion", "services.local"),
        *("gateway", "services.prior", "services.decoder", *CLIENT),
    ),
    "services/prior": (
        *("gateway", "services.local", "services.encoders", "services.decoder", *CLIENT),
    ),
    "services/decoder": (
        *("gateway", "services.local", "services.encoders", "services.prior", *CLIENT),
    ),
    "services/local": ("gateway",),  # starts it as a process
}


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, also inside functions; `from a import b` gives both.

    A string that is the dotted name of a module here, with or without `:attribute`, counts too:
    registries and `import_module` import by such names.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            module = node.value.partition(":")[0]
            if re.fullmatch(r"\w+(\.\w+)+", module) and is_ours(module):
                yield module


def is_ours(module: str) -> bool:
    """Whether a dotted name is a module of this repository, or a name in one."""
    home = ROOT.joinpath(*module.split("."))
    return (
        home.with_suffix(".py").is_file()
        or home.is_dir()
        or (home.parent.with_suffix(".py").is_file())
    )


def begins_with(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_imports_go_one_way(folder: str) -> None:
    files = [path for path in (ROOT / folder).rglob("*.py") if "v1" not in path.parts]
    assert files
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in files
        for module in imports(path)
        for prefix in FORBIDDEN[folder]
        if begins_with(module, prefix)
    ]
    assert not wrong


def test_the_check_sees_imports_inside_functions(tmp_path: Path) -> None:
    (tmp_path / "hidden.py").write_text("def f():\n    from services.engine import job\n")
    assert "services.engine.job" in set(imports(tmp_path / "hidden.py"))


@pytest.mark.parametrize(
    "line",
    [
        'importlib.import_module("services.engine.job")',
        'FAMILIES = {"a": "services.engine.job:Job"}',
        '__import__("services.engine.job")',
    ],
)
def test_the_check_sees_imports_by_name(tmp_path: Path, line: str) -> None:
    (tmp_path / "hidden.py").write_text(f"{line}\n")
    assert "services.engine.job" in set(imports(tmp_path / "hidden.py"))


def test_every_room_of_the_services_has_rules() -> None:
    rooms = {path.parent.name for path in (ROOT / "services").glob("*/__init__.py")}
    assert rooms == {folder.removeprefix("services/") for folder in FORBIDDEN if "/" in folder}
    assert [path.name for path in (ROOT / "services").glob("*.py")] == ["__init__.py"]


@pytest.mark.parametrize("stage", ["encoders", "prior", "decoder"])
def test_no_family_imports_another(stage: str) -> None:
    """What two families share is in `services/diffusion`, or beside the families' folder."""
    folder = ROOT / "services" / stage / "families"
    own = f"services.{stage}.families"
    wrong = [
        f"{path.name} imports {module}"
        for path in folder.glob("*.py")
        if path.name != "__init__.py"
        for module in imports(path)
        if begins_with(module, own)
    ]
    assert not wrong


def test_one_file_knows_that_stages_sit_behind_serve() -> None:
    """Serve's proxy picks an application by the metadata key `application`."""
    knowing = [
        path.relative_to(ROOT).as_posix()
        for folder in ("gateway", "kandinsky")
        for path in (ROOT / folder).rglob("*.py")
        if '"application"' in path.read_text(encoding="utf-8")
    ]
    assert knowing == ["gateway/stages/stage_calls.py"]


@pytest.mark.parametrize("module", ["kandinsky", "kandinsky.cli.app", "gateway.server.app"])
def test_what_runs_beside_the_stages_loads_no_model_library(module: str) -> None:
    program = f"import sys, {module}; print(*sorted({set(HEAVY)!r} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
