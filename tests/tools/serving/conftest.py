"""The stage that most tests play on."""

import pytest

from tests.tools.serving.stand_in import open_stage


@pytest.fixture
def stage():
    with open_stage() as made:
        yield made
