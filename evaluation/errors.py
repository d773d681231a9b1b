"""The error of scoring: something is wrong with an archive, a line of it, or a parameter."""


class ProtocolError(Exception):
    """``str(error)`` is one sentence that names the archive, entry and line, or the flag."""

    exit_code = 1


def shown(text: str, limit: int = 80) -> str:
    """Quotes text from a stranger's file for a message: control characters escaped, cut to size.

    Args:
        text: what the file says.
        limit: number of characters from which on the rest is left out.

    Returns:
        The quoted text.
    """
    return repr(text) if len(text) <= limit else f'{text[:limit]!r}...'
