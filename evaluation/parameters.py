"""Parameters of scoring, named as in ICDAR's script, and the exception of scoring."""

import json
import re
from typing import Any, Dict, NamedTuple, Optional


class ProtocolError(Exception):
    """Invalid input; the message names the archive, entry and line, or the flag."""

    exit_code = 1


def shown(text: str, limit: int = 80) -> str:
    """Quotes untrusted text for a message, with control characters escaped.

    Args:
        text: text from a file.
        limit: number of characters after which the text is cut off.
    """
    return repr(text) if len(text) <= limit else f'{text[:limit]!r}...'


class Parameters(NamedTuple):
    r"""Parameters of the protocol, which ``-p`` sets.

    Attributes:
        IOU_CONSTRAINT: boxes match if their IoU is greater; 0..1.
        AREA_PRECISION_CONSTRAINT: a detection is ignored if more than this share of its area lies
            in one do-not-care region; 0..1.
        GT_SAMPLE_NAME_2_ID: regular expression of the full name of a ground-truth entry, whose
            first group is the sample id. The dot before ``txt`` is escaped.
        DET_SAMPLE_NAME_2_ID: the same for entries of the results.
        LTRB: whether boxes are left, top, right, bottom instead of four points.
        CRLF: whether lines must end in CRLF; otherwise LF is accepted too.
        CONFIDENCES: whether result lines end in a confidence, 0..1; enables average precision.
        PER_SAMPLE_RESULTS: whether ``-o`` writes a file for each sample.
    """

    IOU_CONSTRAINT: float = 0.5
    AREA_PRECISION_CONSTRAINT: float = 0.5
    GT_SAMPLE_NAME_2_ID: str = r'gt_img_([0-9]+)\.txt'
    DET_SAMPLE_NAME_2_ID: str = r'res_img_([0-9]+)\.txt'
    LTRB: bool = False
    CRLF: bool = False
    CONFIDENCES: bool = False
    PER_SAMPLE_RESULTS: bool = True


DEFAULT_PARAMETERS = Parameters()
# Patterns for images of any name; the defaults are those of ICDAR2015.
ANY_GT_NAME = r'gt_(.+)\.txt'
ANY_DET_NAME = r'res_(.+)\.txt'


def parse_parameters(text: Optional[str]) -> Parameters:
    """Parses the value of ``-p``.

    Args:
        text: a JSON object with fields of ``Parameters``; None for the defaults.

    Returns:
        The parameters, with defaults for missing fields.

    Raises:
        ProtocolError: the text is not such an object, or a name or value is invalid.
    """
    if text is None:
        return DEFAULT_PARAMETERS
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f'-p={shown(text)} is not valid JSON ({error}); give an object such as '
                            '{"IOU_CONSTRAINT": 0.5}') from None
    if not isinstance(given, dict):
        raise ProtocolError(f'-p={shown(text)} is not a JSON object; give one such as '
                            '{"IOU_CONSTRAINT": 0.5}')
    return Parameters(**_checked(given))


def _checked(given: Dict[str, Any]) -> Dict[str, Any]:
    defaults = DEFAULT_PARAMETERS._asdict()
    for name, value in given.items():
        if name not in defaults:
            raise ProtocolError(f'-p has no parameter {shown(name)}; available are '
                                f'{", ".join(defaults)}')
        problem = _problem(value, defaults[name])
        if problem:
            raise ProtocolError(f'-p: {name} must be {problem}, not {shown(json.dumps(value))}')
    return given


def _problem(value: Any, default: Any) -> Optional[str]:
    """Describes the requirement that a value violates, given the default; None if it is valid."""
    if isinstance(default, bool):
        return None if isinstance(value, bool) else 'true or false'
    if isinstance(default, float):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return None if number and 0 <= value <= 1 else 'a number from 0 to 1'
    try:
        valid = isinstance(value, str) and re.compile(value).groups >= 1
    except (re.error, RecursionError, OverflowError):
        valid = False
    return None if valid else 'a regular expression whose first group is the sample id'
