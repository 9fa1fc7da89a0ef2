"""What families declare agrees with itself and with the contract."""

import pytest

from kandinsky.catalog.families import FAMILIES, family
from kandinsky.catalog.family import CanvasKind, GuideKind, Stage
from kandinsky.v1 import canvas_pb2, conditioning_pb2, guide_pb2, models_pb2

SPECS = [family(name) for name in FAMILIES]
named = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)


def test_kinds_are_those_of_the_contract():
    guides = guide_pb2.Guide.DESCRIPTOR.oneofs_by_name["kind"].fields
    canvases = canvas_pb2.Canvas.DESCRIPTOR.oneofs_by_name["kind"].fields
    assert [field.name for field in guides] == [*GuideKind]
    assert ["noise", *(field.name for field in canvases)] == [*CanvasKind]
    for enum, kinds in (
        (models_pb2.GuideKind.DESCRIPTOR, GuideKind),
        (models_pb2.CanvasKind.DESCRIPTOR, CanvasKind),
    ):
        prefix = enum.values[0].name.removesuffix("UNSPECIFIED")
        assert [value.name.removeprefix(prefix).lower() for value in enum.values[1:]] == [*kinds]


def test_an_unknown_family_is_named_beside_those_that_are():
    with pytest.raises(LookupError, match="unknown family 'toys'; there are kandinsky-2-1, "):
        family("toys")


@named
def test_a_family_is_registered_by_its_own_name(spec):
    assert family(spec.name) is spec


@named
def test_a_family_s_stages_are_those_of_its_text_route(spec):
    assert spec.text_route[0] is Stage.ENCODERS
    assert spec.text_route[-1] is Stage.DECODER
    sampling = [stage for stage in spec.text_route if stage is not Stage.ENCODERS]
    assert [*spec.reads] == sampling
    assert {sampler.stage for sampler in spec.samplers} == {*sampling}
    assert {role.stage for role in spec.roles} == {*spec.text_route}


@named
def test_a_family_reads_fields_of_conditioning(spec):
    known = conditioning_pb2.Conditioning.DESCRIPTOR.fields_by_name
    for fields in spec.reads.values():
        for field in fields:
            assert field.name in known
            assert (f"negative_{field.name}" in known) is (field.unconditional is not None)


@named
def test_a_layout_fills_roles_with_the_parts_that_they_load(spec):
    roles = {(role.stage, role.name): role for role in spec.roles}
    for layout in spec.layouts:
        assert layout.roles
        for key in layout.roles:
            assert {*roles[key].parts} <= {*layout.parts}, layout.title
    filled = {key for layout in spec.layouts for key in layout.roles}
    assert {key for key, role in roles.items() if role.required} <= filled
