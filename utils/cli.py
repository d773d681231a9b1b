"""Shared by all entry scripts: flags, help, logging and error messages.

An entry script defines its flags in groups (``flags.DEFINE_integer(..., **group('data'))``) and
ends with ``cli.run(main, usage)``. A PSENetError is printed to stderr as one sentence, with a
non-zero exit code; any other exception is a bug and keeps its traceback.
"""

import os
import sys
import textwrap
from typing import Any, Callable, Dict, List, Optional

from absl import app, flags

from utils.errors import PSENetError, lack_of_tensorflow
from utils.utils_tool import configure_logging

_GROUP_PREFIX = 'psenet: '
# Name of a removed flag -> its replacement.
MOVED_FLAGS: Dict[str, str] = {}
_HELP_ARGUMENTS = ('-h', '-?', '-help', '--help', '--helpshort', '--helpfull')


def group(title: str) -> Dict[str, str]:
    """Returns keyword arguments for ``flags.DEFINE_*`` that list the flag under a title."""
    return {'module_name': _GROUP_PREFIX + title}


class _PathParser(flags.ArgumentParser):
    """Expands ~ to the home directory, as a shell does."""

    def parse(self, argument: str) -> str:
        return os.path.expanduser(argument)

    def flag_type(self) -> str:
        return 'path'


def define_path(name: str, default: Optional[str], help_sentence: str, **kwargs: Any) -> None:
    """Defines a flag that takes a path.

    It expands ~, which a shell expands only at the start of a word, not after ``--flag=``.

    Args:
        name: of the flag.
        default: value if the flag is not given.
        help_sentence: for ``--help``.
        **kwargs: as of ``flags.DEFINE_string``.
    """
    flags.DEFINE(_PathParser(), name, default, help_sentence,
                 serializer=flags.ArgumentSerializer(), **kwargs)


def help_text(usage: str) -> str:
    """Formats the project's own flags, group by group, with their defaults.

    Args:
        usage: what the script does and how to call it; printed above the flags.

    Returns:
        The text of ``--help``.
    """
    lines = [usage.strip()]
    for module, members in flags.FLAGS.flags_by_module_dict().items():
        if not module.startswith(_GROUP_PREFIX):
            continue
        title = module[len(_GROUP_PREFIX):]
        lines += ['', f'{title[0].upper()}{title[1:]}:']
        for flag in members:
            lines += _flag_lines(flag)
    return '\n'.join(lines)


def _flag_lines(flag: flags.Flag) -> List[str]:
    form = flag.name if flag.boolean else f'{flag.name}={flag.flag_type()}'
    text = f'{flag.help} (default: {_default_text(flag)})'
    return [f'  --{form}'] + textwrap.wrap(text, 92, initial_indent=' ' * 6,
                                             subsequent_indent=' ' * 6)


def _default_text(flag: flags.Flag) -> str:
    if flag.default is None:
        return 'none'
    # absl quotes every value; around a number or a boolean the quotes are misleading.
    return flag.default_as_str if isinstance(flag.default, str) else flag.default_as_str.strip("'")


def print_text(text: str) -> None:
    """Prints text that may contain file names; bytes that are not UTF-8 are escaped."""
    print(text.encode('utf-8', 'backslashreplace').decode('utf-8'))


def _print_help(usage: str) -> None:
    try:
        print(help_text(usage), flush=True)
    except BrokenPipeError:
        # The reader (head, a pager) has closed the pipe. Python would try to write the rest of the
        # buffer at exit and report an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parse_flags(usage: str, argv: List[str]) -> List[str]:
    if any(argument in _HELP_ARGUMENTS for argument in argv[1:]):
        _print_help(usage)
        sys.exit(0)
    try:
        rest = flags.FLAGS(argv)
    except flags.Error as error:
        name = getattr(error, 'flagname', '')
        if name in MOVED_FLAGS:
            _fail(f'--{name} no longer exists; use {MOVED_FLAGS[name]}', 1)
        _fail(f'{error} ({argv[0]} --help lists the flags)', 1)
    if len(rest) > 1:
        _fail(f'{rest[1]!r} is not a flag; every argument has the form --flag=value ({argv[0]} '
              '--help lists them)', 1)
    return rest


def _fail(sentence: str, exit_code: int) -> None:
    print(f'error: {sentence}', file=sys.stderr)
    sys.exit(exit_code)


def _guarded(main: Callable[[List[str]], Optional[int]], argv: List[str]) -> int:
    try:
        return main(argv) or 0
    except PSENetError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail('interrupted', 130)
    except ModuleNotFoundError as error:
        if not lack_of_tensorflow(error):
            raise
        _fail(lack_of_tensorflow(error), 1)
    except FileNotFoundError as error:
        # Raised by Python's tempfile, also while TensorFlow is imported.
        if 'No usable temporary directory' not in str(error):
            raise
        _fail('no directory for temporary files is writable '
              f'({error.strerror.partition(" in ")[2].strip("[]")}); set TMPDIR to one that is', 1)
    return 0


def run(main: Callable[[List[str]], Optional[int]], usage: str) -> None:
    """Parses the flags, runs ``main(argv)`` and exits with its return value.

    Args:
        main: the script's main function; returning None means success.
        usage: printed above the flags by ``--help``; usually the script's docstring.
    """
    configure_logging()
    app.run(lambda argv: _guarded(main, argv),
            flags_parser=lambda argv: _parse_flags(usage, argv))
