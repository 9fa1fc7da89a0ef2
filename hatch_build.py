"""Build hook: generates the gRPC stubs in kandinsky/v1 from protos/ for every kind of install."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


def generate_stubs(root: Path) -> None:
    """Writes `*_pb2.py`, `*_pb2_grpc.py` and their `.pyi` into `root`/kandinsky/v1."""
    import grpc_tools
    from grpc_tools import protoc

    protos = root / "protos"
    package = root / "kandinsky" / "v1"
    package.mkdir(exist_ok=True)
    (package / "__init__.py").write_text('"""Stubs generated from protos/; not committed."""\n')
    arguments = [
        "protoc",
        f"-I{protos}",
        f"-I{Path(grpc_tools.__file__).parent / '_proto'}",
        f"--python_out={root}",
        f"--pyi_out={root}",
        f"--grpc_python_out={root}",
        *sorted(str(path) for path in protos.glob("kandinsky/v1/*.proto")),
    ]
    if protoc.main(arguments) != 0:
        raise RuntimeError("protoc failed; see its messages above")


class StubsHook(BuildHookInterface[Any]):
    """Runs protoc before hatchling collects the files of a wheel or an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        generate_stubs(Path(self.root))
