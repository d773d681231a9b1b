"""What is said of pip-audit's reports; asking PyPI is left to `make lint`."""

import subprocess
import sys

import pytest

from tools import audit, setup_env

CLEAN = {'name': 'absl-py', 'version': '2.1.0', 'vulns': []}


def with_finding(name, identifier='CVE-1'):
    return {'name': name, 'version': '1.0', 'vulns': [{'id': identifier, 'fix_versions': []}]}


def report(*packages):
    return {'dependencies': list(packages), 'fixes': []}


@pytest.mark.parametrize('unanswered', [
    None, report({'name': 'absl-py', 'skip_reason': 'not found on PyPI'})])
def test_without_an_answer_nothing_fails_and_a_line_says_so(unanswered):
    assert audit.verdict(unanswered) == [
        'known vulnerabilities: skipped, no network (PyPI does not answer)']


def test_no_findings():
    assert audit.verdict(report(CLEAN)) == [
        'known vulnerabilities: 0 accepted, of no package (tools/audit.py says why), 0 not']


def test_accepted_ones_are_counted_once_by_package():
    lines = audit.verdict(report(CLEAN, with_finding('tensorflow'), with_finding('tensorflow'),
                                 with_finding('Pillow', 'CVE-2')))
    assert lines == ['known vulnerabilities: 2 accepted, of pillow, tensorflow '
                     '(tools/audit.py says why), 0 not']


def test_others_are_errors(monkeypatch, capsys):
    monkeypatch.setattr(audit, 'ask_pypi', lambda: report(CLEAN, with_finding('absl-py')))
    assert audit.main(report_only=False) == 1
    assert audit.main(report_only=True) == 0
    assert capsys.readouterr().out.startswith('error: absl-py 1.0 has CVE-1: choose a version')


@pytest.mark.parametrize('program', ['import sys; sys.exit("no route to host")',
                                     'import time; time.sleep(60)'])
def test_a_failing_or_slow_network_is_no_error(monkeypatch, program):
    run = subprocess.run
    monkeypatch.setattr(audit, '_PATIENCE_SECONDS', 2)
    monkeypatch.setattr(subprocess, 'run', lambda _, **options: run(
        [sys.executable, '-c', program], **options))
    assert audit.ask_pypi() is None


def test_all_that_is_accepted_is_pinned(project_root):
    pinned = {setup_env.name_of(line) for name in audit._FILES
              for line in setup_env.read_requirements(project_root / name)}
    assert set(audit.ACCEPTED) - pinned <= {'pip'}
