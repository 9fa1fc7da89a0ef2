"""Write docs/reference.md from the contract's comments and constraints, and the families.

python docs/reference.py, which `make docs` runs.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import grpc_tools
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from grpc_tools import protoc

from kandinsky.catalog.families import FAMILIES, family
from kandinsky.catalog.family import FamilySpec
from kandinsky.v1.constraint_pb2 import constraint

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference.md"
PACKAGE = ".kandinsky.v1."
FILES = (
    ("The request", ("generation", "guide", "canvas", "settings", "input_image", "tensor")),
    ("Models", ("models", "adapters")),
    ("The stages", ("conditioning", "encoders", "prior", "decoder", "sampling")),
)
"""Sections of the page, and the files of protos/kandinsky/v1 in each."""
ERRORS = "error_reason"
_MESSAGE, _ENUM, _SERVICE = (
    FileDescriptorProto.MESSAGE_TYPE_FIELD_NUMBER,
    FileDescriptorProto.ENUM_TYPE_FIELD_NUMBER,
    FileDescriptorProto.SERVICE_FIELD_NUMBER,
)
_FIELD, _VALUE, _METHOD = 2, 2, 2  # of DescriptorProto, EnumDescriptorProto, ServiceDescriptorProto
_TYPES = FieldDescriptorProto.Type
HEAD = """\
# Reference

Generated from [`protos/kandinsky/v1`](../protos/kandinsky/v1) and the families' declarations by
`make docs`. A field that a request leaves out has the default that its line names; what depends on
the model is in `ListModels`.
"""


class File:
    """A file of the contract, and the comments that stand above its parts."""

    def __init__(self, proto: FileDescriptorProto) -> None:
        self.proto = proto
        self._comments = {
            tuple(location.path): " ".join(location.leading_comments.split())
            for location in proto.source_code_info.location
        }

    def comment(self, *path: int) -> str:
        """The comment of the part at a path, as descriptor.proto numbers them, in one line."""
        return self._comments.get(path, "")


def files() -> dict[str, File]:
    """The files of the contract by their stem."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "contract.binpb"
        arguments = [
            *("protoc", f"-I{ROOT / 'protos'}"),
            f"-I{Path(grpc_tools.__file__).parent / '_proto'}",
            *("--include_source_info", f"--descriptor_set_out={out}"),
            *sorted(str(path) for path in (ROOT / "protos").glob("kandinsky/v1/*.proto")),
        ]
        if protoc.main(arguments) != 0:
            raise RuntimeError("protoc failed; see its messages above")
        found = FileDescriptorSet.FromString(out.read_bytes())
    return {Path(file.name).stem: File(file) for file in found.file}


def page() -> str:
    """The text of docs/reference.md."""
    contract = files()
    parts = [HEAD]
    for title, names in FILES:
        parts.append(f"## {title}\n")
        for name in names:
            parts += _of_file(contract[name])
    parts.append("## Errors\n")
    parts += _errors(contract[ERRORS])
    parts.append("## Families\n")
    parts += _families()
    return "\n".join(parts)


def _of_file(file: File) -> Iterator[str]:
    for i, service in enumerate(file.proto.service):
        yield f"### {service.name}\n\n{file.comment(_SERVICE, i)}\n"
        rows = [
            (
                f"`{method.name}`",
                f"{_link(method.input_type)} → {'stream of ' * method.server_streaming}"
                f"{_link(method.output_type)}",
                file.comment(_SERVICE, i, _METHOD, j),
            )
            for j, method in enumerate(service.method)
        ]
        yield _table(("RPC", "messages", ""), rows)
    for i, message in enumerate(file.proto.message_type):
        yield f"### {message.name}\n\n{file.comment(_MESSAGE, i)}\n"
        if message.field:
            yield _table(("field", "type", "takes", ""), _fields(file, message, i))
    for i, enum in enumerate(file.proto.enum_type):
        yield f"### {enum.name}\n\n{file.comment(_ENUM, i)}\n"
        yield _table(("value", ""), _values(file, enum, i))


def _fields(file: File, message: DescriptorProto, place: int) -> Iterator[tuple[str, ...]]:
    for j, field in enumerate(message.field):
        kind = _link(field.type_name) if field.type_name else _scalar(field)
        is_list = field.label == FieldDescriptorProto.Label.LABEL_REPEATED
        of = f"list of {kind}" if is_list else kind
        choice = ""
        if field.HasField("oneof_index") and not field.proto3_optional:
            choice = f"one of `{message.oneof_decl[field.oneof_index].name}`"
        takes = ", ".join(filter(None, (choice, _takes(field))))
        yield f"`{field.name}`", of, takes, file.comment(_MESSAGE, place, _FIELD, j)


def _takes(field: FieldDescriptorProto) -> str:
    """The constraint of a field in words."""
    rule = field.options.Extensions[cast(Any, constraint)]  # the stubs know no custom option
    said = ["required"] if rule.required else []
    if rule.HasField("above"):
        said.append(f"above {rule.above:g}")
    if rule.HasField("min"):
        said.append(f"from {rule.min:g}")
    if rule.HasField("max"):
        said.append(f"up to {rule.max:g}")
    if rule.HasField("axes"):
        said.append(f"floats, {rule.axes} {'axis' if rule.axes == 1 else 'axes'}")
    if rule.one_or_each:
        said.append("one, or one an item")
    if rule.one_or_each_image:
        said.append("one, or one an image")
    return ", ".join(said)


def _values(file: File, enum: EnumDescriptorProto, place: int) -> Iterator[tuple[str, ...]]:
    for j, value in enumerate(enum.value):
        yield f"`{value.name}`", file.comment(_ENUM, place, _VALUE, j)


def _errors(file: File) -> Iterator[str]:
    [enum] = file.proto.enum_type
    prefix = enum.value[0].name.removesuffix("UNSPECIFIED")
    yield file.comment(_ENUM, 0) + "\n"
    rows = []
    for j, value in enumerate(enum.value):
        comment = file.comment(_ENUM, 0, _VALUE, j)
        code, _, rest = comment.partition(". ")
        text, _, sample = rest.partition(" Sample: ")
        if sample:
            rows.append((f"`{value.name.removeprefix(prefix)}`", code, text, f"`{sample}`"))
    yield _table(("reason", "code", "", "sample"), rows)


def _families() -> Iterator[str]:
    for spec in map(family, FAMILIES):
        yield f"### {spec.title}\n\n{_sentence(spec)}\n"
        rows = [
            (
                f"`{sampler.group}`",
                f"{sampler.steps}, {sampler.min_steps} to {sampler.max_steps}",
                f"{sampler.guidance_scale:g}",
                f"{sampler.strength:g}",
                f"{sampler.inpaint_strength:g}",
            )
            for sampler in spec.samplers
        ]
        yield _table(("settings", "steps", "guidance scale", "strength", "to inpaint"), rows)


def _sentence(spec: FamilySpec) -> str:
    route = " → ".join(spec.text_route)
    guides, canvases = (
        ", ".join(f"`{each}`" for each in of) for of in (spec.guides, spec.canvases)
    )
    return (
        f"`{spec.name}`. A text passes {route}. Guides: {guides}. Canvases: {canvases}. Heights "
        f"and widths are multiples of {spec.size_multiple}. Defaults, which a model may override:"
    )


def _scalar(field: FieldDescriptorProto) -> str:
    return _TYPES.Name(field.type).removeprefix("TYPE_").lower()


def _link(type_name: str) -> str:
    name = type_name.removeprefix(PACKAGE)
    return f"[{name}](#{name.lower()})" if type_name.startswith(PACKAGE) else name.lstrip(".")


def _table(head: tuple[str, ...], rows: Any) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    cells = (" | ".join(cell.replace("|", "\\|") for cell in line) for line in lines)
    return "".join(f"| {line} |\n" for line in cells)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
