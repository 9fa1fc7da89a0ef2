"""deploy/local/shapes.yaml is a Serve configuration of things that exist."""

import importlib
from pathlib import Path

import yaml
from ray.serve.schema import ServeDeploySchema

from kandinsky.catalog.catalog import Catalog
from services.local.applications import DEPLOYMENTS, SERVICERS
from services.local.ray_serve import last_error

MANIFEST = Path(__file__).parents[3] / "deploy" / "local" / "shapes.yaml"


def test_the_manifest_names_what_exists() -> None:
    config = ServeDeploySchema.model_validate(yaml.safe_load(MANIFEST.read_text()))
    entry = Catalog.load()["shapes"]
    applications = {application.name: application for application in config.applications}
    assert set(applications) == {entry.application(stage) for stage in entry.stages}
    for stage in entry.stages:
        application = applications[entry.application(stage)]
        module, _, attribute = application.import_path.partition(":")
        assert callable(getattr(importlib.import_module(module), attribute))
        assert module == f"services.{stage.value}.app"
        assert [deployment.name for deployment in application.deployments] == [DEPLOYMENTS[stage]]
    for path in config.grpc_options.grpc_servicer_functions:
        module, _, attribute = path.rpartition(".")
        assert callable(getattr(importlib.import_module(module), attribute))
    assert config.grpc_options.grpc_servicer_functions == SERVICERS


def test_the_manifest_opens_with_its_purpose() -> None:
    assert MANIFEST.read_text().startswith("# ")


def test_a_traceback_becomes_its_last_sentence() -> None:
    message = (
        "The deployment failed to start 1 times in a row. Error:\n"
        "ray::ServeReplica:a:B.initialize_and_get_metadata() (pid=1)\n"
        '  File "a.py", line 1, in b\n'
        "services.loading.loader.CheckpointError: checkpoint folder /x does not exist\n"
    )
    assert last_error(message) == "checkpoint folder /x does not exist"
    assert last_error("") == "it gave no reason"
