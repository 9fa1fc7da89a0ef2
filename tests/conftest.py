"""Fixtures that several kinds of test share, and how Hypothesis runs.

The same examples every time, so that a run depends on the code alone; `pytest
--hypothesis-profile=explore` looks for new ones. No time limit an example: on a busy machine it
measures the neighbours.
"""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("explore", settings.get_profile("repeatable"), derandomize=False)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random Kandinsky 2.2 and the catalog file of model `tiny`."""
    import torch

    from tests import tiny

    torch.set_num_threads(1)
    return tiny.write_catalog(tiny.build(tmp_path_factory.mktemp("tiny")))
