"""Packing results from the command line."""

import os
import subprocess
import sys
import zipfile


def pack(project_root, directory):
    return subprocess.run([sys.executable, '-m', 'tools.pack_results',
                           f'--output_dir={directory}'], stderr=subprocess.PIPE, encoding='utf-8',
                          cwd=str(directory), check=False)


def test_results_are_packed_from_any_folder(project_root, tmp_path):
    (tmp_path / 'res_img_1.txt').write_text('')
    assert pack(project_root, tmp_path).returncode == 0
    with zipfile.ZipFile(str(tmp_path / 'results.zip')) as archive:
        assert archive.namelist() == ['res_img_1.txt']


def test_nothing_to_pack_is_one_sentence(project_root, tmp_path):
    result = pack(project_root, tmp_path)
    assert result.returncode == 1
    assert 'has no res_img_<number>.txt' in result.stderr
    assert os.listdir(str(tmp_path)) == []
