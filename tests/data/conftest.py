from pathlib import Path

import numpy as np
import pytest

from tests.data.archives import content, human_labels


@pytest.fixture(scope="session")
def root(tmp_path_factory) -> Path:
    """A data root with both archives."""
    folder = tmp_path_factory.mktemp("data")
    np.savez(folder / "cifar10.npz", **content())
    np.savez(folder / "cifar10n.npz", **human_labels(content()["y_train"]))
    return folder
