"""Which models exist: what a catalog file may say, and the sentence when it may not."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kandinsky.catalog.catalog import (
    BUILT_IN,
    Catalog,
    CatalogEntry,
    CatalogError,
    Flow,
    FolderCheckpoint,
    HubCheckpoint,
    SharedStage,
    Stage,
    read_entry,
)
from kandinsky.v1 import generation_pb2


def an_entry(**changes) -> dict:
    return {
        "name": "toy",
        "description": "A toy.",
        "family": "toys",
        "stages": {
            "encoders": {"checkpoint": {"folder": "weights/prior"}},
            "decoder": {
                "checkpoint": {"hub": "someone/toy", "revision": "main"},
                "inpaint_checkpoint": {"folder": "/weights/inpaint"},
            },
        },
        "flows": ["text_to_image"],
        "defaults": {"height": 64, "width": 128, "steps": 5, "guidance_scale": 4.0},
        "limits": {"size_multiple": 64, "min_size": 64, "max_size": 128},
        **changes,
    }


def written(folder: Path, entry: object, name: str = "toy.yaml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(entry if isinstance(entry, str) else yaml.safe_dump(entry), encoding="utf-8")
    return path


def complaint(action, *parts: str) -> str:
    """The message of the CatalogError of `action`: one line, in which all of `parts` stand."""
    with pytest.raises(CatalogError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    assert "Traceback" not in message
    for part in parts:
        assert part in message
    return message


def test_built_in_entries_load():
    catalog = Catalog.load()
    assert catalog.names == sorted(path.stem for path in BUILT_IN.glob("*.yaml"))
    assert {"shapes", "kandinsky-2-1", "kandinsky-2-2"} <= set(catalog.names)
    for name in catalog.names:
        entry = catalog[name]
        assert name in catalog
        assert entry.name == name
        assert entry.description.endswith(".")
        assert {Flow.TEXT_TO_IMAGE, Flow.CONTROL} & set(entry.flows)


def test_built_in_checkpoints_are_pinned_or_in_the_repository():
    for name in Catalog.load().names:
        entry = Catalog.load()[name]
        for home in entry.stages.values():
            if isinstance(home, SharedStage):
                continue
            for checkpoint in home.all:
                if isinstance(checkpoint, FolderCheckpoint):
                    assert BUILT_IN.parents[1] / "checkpoints" in checkpoint.folder.parents


def test_flows_are_those_of_the_contract():
    in_contract = {flow.removeprefix("FLOW_").lower() for flow in generation_pb2.Flow.keys()}  # noqa: SIM118
    assert in_contract == {"unspecified", *Flow}


def test_an_entry_reads_as_it_was_written(tmp_path):
    entry = read_entry(written(tmp_path, an_entry(dtype="bfloat16", device="cuda:1")))
    assert (entry.name, entry.dtype, entry.device) == ("toy", "bfloat16", "cuda:1")
    assert entry.flows == (Flow.TEXT_TO_IMAGE,)
    assert (entry.defaults.height, entry.defaults.width) == (64, 128)
    assert entry.defaults.prior_steps == 25
    hub = entry.checkpoints(Stage.DECODER).checkpoint
    assert hub == HubCheckpoint(hub="someone/toy", revision="main")


def test_an_entry_cannot_be_changed(tmp_path):
    entry = read_entry(written(tmp_path, an_entry()))
    for target, name in ((entry, "name"), (entry.limits, "max_size"), (entry.defaults, "steps")):
        with pytest.raises(ValueError, match="frozen"):
            setattr(target, name, getattr(target, name))


def test_relative_checkpoints_are_taken_from_the_file_s_own_folder(tmp_path, monkeypatch):
    path = written(tmp_path / "models", an_entry())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    entry = read_entry(path)
    folder = (tmp_path / "models/weights/prior").resolve()
    assert entry.checkpoints(Stage.ENCODERS).checkpoint == FolderCheckpoint(folder=folder)
    absolute = entry.checkpoints(Stage.DECODER).inpaint_checkpoint
    assert absolute == FolderCheckpoint(folder=Path("/weights/inpaint"))


def test_a_relative_catalog_folder_gives_absolute_checkpoints(tmp_path, monkeypatch):
    written(tmp_path / "models", an_entry())
    monkeypatch.chdir(tmp_path)
    home = Catalog.load([Path("models")])["toy"].checkpoints(Stage.ENCODERS)
    assert home.checkpoint.folder == (tmp_path / "models/weights/prior").resolve()


def _with(path: str, value: object) -> dict:
    """A good entry in which the key at a dotted path has another value."""
    entry = an_entry()
    *parents, key = path.split(".")
    place = entry
    for parent in parents:
        place = place[parent]
    place[key] = value
    return entry


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("colour", "red"),
        ("limits.max_sise", 3),
        ("defaults.seed", 1),
        ("stages.decoder.replicas", 2),
        ("stages.decoder.checkpoint.token", "x"),
        ("stages.encoders.checkpoint.revision", "main"),
        ("stages.denoiser", {"model": "shapes"}),
        ("stages.prior", {"model": "shapes", "checkpoint": {"folder": "x"}}),
        ("name", "Toy"),
        ("name", "toy_1"),
        ("name", ""),
        ("name", None),
        ("family", 3),
        ("dtype", "int8"),
        ("flows", ["text_to_video"]),
        ("defaults.steps", 0),
        ("defaults.prior_steps", 1),
        ("defaults.height", "tall"),
        ("limits.size_multiple", 0),
        ("description", None),
        ("flows", []),
        ("defaults.guidance_scale", -1.0),
        ("defaults.guidance_scale", float("nan")),
        ("defaults.prior_guidance_scale", float("inf")),
        ("limits.min_size", 0),
        ("limits.max_images", 0),
        ("limits.max_images", 129),
    ],
)
def test_a_bad_key_is_refused_by_file_and_key(tmp_path, key, value):
    path = written(tmp_path, _with(key, value))
    message = complaint(lambda: read_entry(path))
    assert re.match(rf"{path}: {key}[.: ]", message)


@pytest.mark.parametrize(
    "key", ["name", "description", "family", "stages", "flows", "defaults", "limits"]
)
def test_a_missing_key_is_refused_by_file_and_key(tmp_path, key):
    entry = an_entry()
    del entry[key]
    path = written(tmp_path, entry)
    complaint(lambda: read_entry(path), str(path), f": {key}: ")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("defaults.height", 100, "default size 100 is not a multiple of 64"),
        ("defaults.width", 192, "default size 192 is outside the limits"),
        ("limits.min_size", 128, "default size 64 is outside the limits"),
        ("defaults.steps", 1001, "default steps exceed the limit of 998"),
        ("stages", {"encoders": {"model": "shapes"}}, "a model needs a decoder stage"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(tmp_path, key, value, said):
    path = written(tmp_path, _with(key, value))
    complaint(lambda: read_entry(path), str(path), said)


@pytest.mark.parametrize(
    "text",
    ["name: [", "a: b: c", "\tname: toy", "name: !!python/object:os.system x", "a: 1\n---\nb: 2"],
)
def test_broken_yaml_is_refused_in_one_line(tmp_path, text):
    path = written(tmp_path, text)
    complaint(lambda: read_entry(path), str(path), "cannot be read as YAML")


@pytest.mark.parametrize("text", ["", "3", "- name", "just words", "null"])
def test_yaml_that_is_no_mapping_is_refused(tmp_path, text):
    path = written(tmp_path, text)
    complaint(lambda: read_entry(path), str(path), "must hold one mapping")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "toy.yaml"
    path.write_bytes(b"\xff\xfe\x00name")
    complaint(lambda: read_entry(path), str(path))


def test_a_missing_file_is_refused(tmp_path):
    complaint(lambda: read_entry(tmp_path / "no.yaml"), str(tmp_path / "no.yaml"))


def test_a_missing_folder_is_refused(tmp_path):
    complaint(lambda: Catalog.load([tmp_path / "no"]), str(tmp_path / "no"), "does not exist")


def test_a_file_in_place_of_a_folder_is_refused(tmp_path):
    path = written(tmp_path, an_entry())
    complaint(lambda: Catalog.load([path]), str(path))


def test_a_model_that_is_not_there_is_named_beside_those_that_are():
    catalog = Catalog.load()
    assert "no-such" not in catalog
    complaint(lambda: catalog["no-such"], "'no-such'", *catalog.names)


def test_later_folders_replace_earlier_ones_by_name(tmp_path):
    written(tmp_path / "one", an_entry(name="shapes", description="One."), "any.yaml")
    written(tmp_path / "two", an_entry(name="shapes", description="Two."), "other.yaml")
    one, two = tmp_path / "one", tmp_path / "two"
    assert Catalog.load([one])["shapes"].description == "One."
    assert Catalog.load([one, two])["shapes"].description == "Two."
    assert Catalog.load([two, one])["shapes"].description == "One."
    assert Catalog.load([one, two]).names == Catalog.load().names


def test_other_files_in_a_folder_are_left_alone(tmp_path):
    written(tmp_path, an_entry())
    (tmp_path / "notes.txt").write_text("no: [yaml")
    assert "toy" in Catalog.load([tmp_path])


def test_a_shared_stage_runs_at_its_owner(tmp_path):
    shared = an_entry(name="second")
    shared["stages"]["encoders"] = {"model": "toy"}
    written(tmp_path, an_entry(), "toy.yaml")
    written(tmp_path, shared, "second.yaml")
    catalog = Catalog.load([tmp_path])
    toy, second = catalog["toy"], catalog["second"]
    assert second.stages[Stage.ENCODERS] == SharedStage(model="toy")
    assert second.application(Stage.ENCODERS) == toy.application(Stage.ENCODERS) == "toy-encoders"
    assert second.application(Stage.DECODER) == "second-decoder"
    complaint(lambda: second.checkpoints(Stage.ENCODERS), "second", "encoders")
    complaint(lambda: second.checkpoints(Stage.PRIOR), "second", "prior")


def test_the_owner_of_a_shared_stage_may_be_in_a_later_folder(tmp_path):
    shared = an_entry(name="second")
    shared["stages"]["encoders"] = {"model": "toy"}
    written(tmp_path / "one", shared)
    written(tmp_path / "two", an_entry())
    assert "second" in Catalog.load([tmp_path / "one", tmp_path / "two"])


@pytest.mark.parametrize(
    ("stage", "owner"),
    [("encoders", "nobody"), ("prior", "toy"), ("encoders", "second"), ("encoders", "third")],
    ids=["no such model", "no such stage", "itself", "a sharer"],
)
def test_a_shared_stage_that_nobody_runs_is_refused(tmp_path, stage, owner):
    second, third = an_entry(name="second"), an_entry(name="third")
    second["stages"][stage] = {"model": owner}
    third["stages"]["encoders"] = {"model": "toy"}
    for entry in (an_entry(), second, third):
        written(tmp_path, entry, f"{entry['name']}.yaml")
    complaint(lambda: Catalog.load([tmp_path])["second"], "second", stage, repr(owner))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*an_entry(), "x", 1]), inner, max_size=8)
        ),
    )
)
def test_any_yaml_is_an_entry_or_a_sentence(tmp_path_factory, content):
    path = written(tmp_path_factory.getbasetemp() / "any", content, "any.yaml")
    try:
        assert isinstance(read_entry(path), CatalogEntry)
    except CatalogError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)
