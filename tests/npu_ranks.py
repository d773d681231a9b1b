"""Processes that train together over the fake adapter: rank table, environment, start and end."""

import json
import os
import pathlib
import subprocess

from tests.small_network import sitecustomize as small_network

FAKES = pathlib.Path(__file__).resolve().parent / 'fakes'
PATIENCE_SECONDS = 1500
OF_THE_DEVICE = ('RANK_SIZE', 'RANK_ID', 'RANK_TABLE_FILE', 'POD_NAME', 'ASCEND_DEVICE_ID',
                 'DEVICE_ID', 'JOB_ID', 'PYTHONPATH', 'CM_WORKER_SIZE', 'CM_CHIEF_IP')


def rank_table(size):
    """A rank table of the newer form, for one server."""
    return {'version': '1.0', 'status': 'completed', 'server_count': '1', 'server_list': [{
        'server_id': '127.0.0.1', 'device': [
            {'device_id': str(rank), 'device_ip': f'192.168.{100 + rank}.101',
             'rank_id': str(rank)} for rank in range(size)]}]}


class Ranks:
    """Starts a job of several ranks of one program."""

    def __init__(self, directory, size, command):
        """Writes the rank table.

        Args:
            directory: for the table and the output, a pathlib.Path.
            size: number of ranks.
            command: of every rank, a list.
        """
        self.directory = directory
        self.size = size
        self.command = command
        self.table = directory / 'rank_table.json'
        self.table.write_text(json.dumps(rank_table(size)))

    def environment(self, rank):
        """What a launcher would set for the rank."""
        kept = {name: value for name, value in os.environ.items() if name not in OF_THE_DEVICE}
        return {**kept, 'PYTHONPATH': f'{FAKES}:{small_network.PYTHONPATH}',
                'RANK_SIZE': str(self.size),
                'RANK_ID': str(rank), 'ASCEND_DEVICE_ID': str(rank), 'JOB_ID': '10087',
                'RANK_TABLE_FILE': str(self.table)}

    def start(self, rank, *arguments, **variables):
        """Starts a rank; its output can be read with ``finish``."""
        return subprocess.Popen(
            [*self.command, *arguments], env={**self.environment(rank), **variables},
            cwd=str(self.directory), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self, *arguments, only=None, **variables):
        """Runs all ranks to their end.

        Args:
            *arguments: of every rank.
            only: {rank: variables} besides, of single ranks.
            **variables: of every rank.

        Returns:
            (exit code, output) of each.
        """
        return finish([self.start(rank, *arguments, **{**variables, **(only or {}).get(rank, {})})
                       for rank in range(self.size)])


def finish(processes):
    """Waits for processes: (exit code, output) of each; none of them is left over."""
    try:
        outputs = [process.communicate(timeout=PATIENCE_SECONDS)[0] for process in processes]
        return [(process.returncode, output) for process, output in zip(processes, outputs)]
    finally:
        for process in processes:
            process.kill()
