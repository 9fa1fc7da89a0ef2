"""Fixtures that several kinds of test share."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile("any-load", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-load")


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random Kandinsky 2.2 and the catalog file of model `tiny`."""
    import torch

    from tests import tiny

    torch.set_num_threads(1)
    return tiny.write_catalog(tiny.build(tmp_path_factory.mktemp("tiny")))
