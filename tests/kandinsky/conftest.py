from collections.abc import Iterator

import pytest

from tests.kandinsky.recording import RecordingGateway, serving


@pytest.fixture
def gateway() -> Iterator[RecordingGateway]:
    with serving() as recording:
        yield recording
