"""Archives made on the spot, for tests of scoring."""

import zipfile

import pytest


@pytest.fixture
def make_zip(tmp_path):
    """make_zip('gt.zip', {'gt_img_1.txt': 'text or bytes'}) -> path of the archive."""
    def make(name, entries):
        path = tmp_path / name
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
            for entry, content in entries.items():
                archive.writestr(entry, content)
        return str(path)
    return make
