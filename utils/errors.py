"""The error a person can act on.

Everything that is the user's to mend (a wrong path, a broken file, a flag pair that cannot work) is
raised as a PSENetError whose message is one sentence naming the file, line or flag and the way out.
Entry scripts print that sentence and exit; anything else is a defect and keeps its traceback.
"""


class PSENetError(Exception):
    """A user's mistake, or an input that cannot be used; ``str(error)`` is the whole message."""

    exit_code = 1


def first_line(error: Exception) -> str:
    """The first line of an error's text, without a trailing full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip('.')
