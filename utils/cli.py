"""What every entry script shares: flags, help, the log, and how a user's mistake ends.

An entry script defines its flags in groups (``flags.DEFINE_integer(..., **group('data'))``) and
ends with ``cli.run(main, usage)``. A PSENetError becomes one sentence on stderr and a non-zero
exit; any other exception is a defect and keeps its traceback.
"""

import os
import sys
import textwrap
from typing import Any, Callable, Dict, List, Optional

from absl import app, flags

from utils.errors import PSENetError, lack_of_tensorflow
from utils.utils_tool import configure_logging

_GROUP_PREFIX = 'psenet: '
# Name of a flag that is gone -> what to give in its place.
MOVED_FLAGS: Dict[str, str] = {}
_HELP_ARGUMENTS = ('-h', '-?', '-help', '--help', '--helpshort', '--helpfull')


def group(title: str) -> Dict[str, str]:
    """Keyword arguments for ``flags.DEFINE_*`` that put the flag under a title of ``--help``."""
    return {'module_name': _GROUP_PREFIX + title}


class _PathParser(flags.ArgumentParser):
    """A path, with ~ for the home directory as a shell would have it."""

    def parse(self, argument: str) -> str:
        return os.path.expanduser(argument)

    def flag_type(self) -> str:
        return 'path'


def define_path(name: str, default: Optional[str], help_sentence: str, **kwargs: Any) -> None:
    """Defines a flag that takes a path.

    A shell expands ~ at the beginning of a word alone, not behind ``--flag=``.

    Args:
        name: of the flag.
        default: its value when it is not given.
        help_sentence: for ``--help``.
        **kwargs: as of ``flags.DEFINE_string``.
    """
    flags.DEFINE(_PathParser(), name, default, help_sentence,
                 serializer=flags.ArgumentSerializer(), **kwargs)


def help_text(usage: str) -> str:
    """Formats the project's own flags, group by group, with their defaults.

    Args:
        usage: what the script does and how it is called; stands above the flags.

    Returns:
        The whole text of ``--help``.
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
    # absl puts quotes around every value; around a number or a boolean they mislead.
    return flag.default_as_str if isinstance(flag.default, str) else flag.default_as_str.strip("'")


def print_text(text: str) -> None:
    """Prints text that may hold file names; their bytes that are no UTF-8 come as escapes."""
    print(text.encode('utf-8', 'backslashreplace').decode('utf-8'))


def _print_help(usage: str) -> None:
    try:
        print(help_text(usage), flush=True)
    except BrokenPipeError:
        # Whoever reads (head, a pager) has seen enough. What is left in the buffer goes nowhere:
        # Python would try to write it once more at exit, and complain.
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
            _fail(f'--{name} is given as {MOVED_FLAGS[name]}', 1)
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
        # Of Python's tempfile, which TensorFlow, too, asks when it is imported.
        if 'No usable temporary directory' not in str(error):
            raise
        _fail('no directory for temporary files can be written '
              f'({error.strerror.partition(" in ")[2].strip("[]")}); name one in TMPDIR', 1)
    return 0


def run(main: Callable[[List[str]], Optional[int]], usage: str) -> None:
    """Parses the flags, runs ``main(argv)`` and exits with what it returns.

    Args:
        main: the script's main function; None means success.
        usage: shown above the flags by ``--help``; usually the script's docstring.
    """
    configure_logging()
    app.run(lambda argv: _guarded(main, argv),
            flags_parser=lambda argv: _parse_flags(usage, argv))
