"""One running bus for all tests of this directory, on a data directory of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from e2e.scene import Scene
from e2e.whole_bus import Bus
from shutong_core.runtime.settings import Settings


@pytest.fixture(scope="session")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    """The whole bus with its embedded Kafka."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("SHUTONG_")]:
            patch.delenv(name)
        made = Bus(Settings(data_dir=tmp_path_factory.mktemp("bus"), prefix="e2e"))
        made.start()
        try:
            yield made
        finally:
            made.stop()


@pytest.fixture(scope="session")
def scene(bus: Bus) -> Scene:
    """Canaries published, decided and read."""
    made = Scene(bus)
    made.play()
    return made
