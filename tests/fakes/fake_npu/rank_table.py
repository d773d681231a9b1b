"""Reading a rank table of either template; NPU.md, section 11."""

import json
from typing import Iterator, List


def table_faults(path: str, size: int) -> Iterator[str]:
    """What is wrong with a rank table.

    Args:
        path: of the file.
        size: ranks of the job.

    Yields:
        One sentence for each fault.
    """
    try:
        with open(path, encoding='utf-8') as file:
            table = json.load(file)
        ranks = _ranks(table)
        servers = _servers(table)
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield 'RANK_TABLE_FILE=%s cannot be used: %r' % (path, error)
        return
    if table.get('status') != 'completed':
        yield 'RANK_TABLE_FILE=%s has status %r, not completed' % (path, table.get('status'))
    if sorted(ranks, key=str) != sorted(map(str, range(size)), key=str):
        yield 'RANK_TABLE_FILE=%s describes the ranks %s, and RANK_SIZE=%d' % (path, ranks, size)
    for server in servers:
        if not 0 < len(server) < 64:
            yield 'RANK_TABLE_FILE=%s has the server_id %r' % (path, server)


def _ranks(table: dict) -> List[str]:
    if 'server_list' in table:
        return [device['rank_id'] for server in table['server_list']
                for device in server['device']]
    return [instance['rank_id'] for group in table['group_list']
            for instance in group['instance_list']]


def _servers(table: dict) -> List[str]:
    if 'server_list' in table:
        return [server['server_id'] for server in table['server_list']]
    return [instance['server_id'] for group in table['group_list']
            for instance in group['instance_list']]
