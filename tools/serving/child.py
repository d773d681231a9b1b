"""The demo server as a child of another program, for as long as that needs it."""

from contextlib import contextmanager
from typing import Iterator

from tools.child_process import running_child
from tools.phases import script
from utils.errors import PSENetError


@contextmanager
def demo_server(**flag_values: object) -> Iterator[str]:
    """Runs ``tools/demo_server.py`` on a free port; its log goes to the screen.

    Args:
        flag_values: its flags, but ``port``.

    Yields:
        The address of its page.

    Raises:
        PSENetError: it does not start.
    """
    command = script('tools/demo_server.py', **flag_values, port=0)
    with running_child(command, capture=True) as child:
        url = child.stdout.readline().partition(' ')[0]
        if not url:
            raise PSENetError('tools/demo_server.py did not start; its messages are above')
        yield url
