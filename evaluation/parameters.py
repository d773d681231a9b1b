"""Parameters of scoring, by the names of ICDAR's script, and the error that scoring raises."""

import json
import re
from typing import Any, Dict, NamedTuple, Optional


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


class Parameters(NamedTuple):
    r"""Parameters of the protocol, which ``-p`` sets.

    Attributes:
        IOU_CONSTRAINT: a pair of boxes matches when its IoU is greater; 0..1.
        AREA_PRECISION_CONSTRAINT: a detection is not counted when more than this share of its area
            lies in one do-not-care region; 0..1.
        GT_SAMPLE_NAME_2_ID: regular expression of the whole name of a ground-truth entry; its first
            group is the sample's id. The dot before ``txt`` is a dot, not any character.
        DET_SAMPLE_NAME_2_ID: the same for the entries of the results.
        LTRB: boxes are given as left, top, right, bottom instead of four points.
        CRLF: lines must end in CRLF; when false, LF is accepted too.
        CONFIDENCES: each result line ends in a confidence, 0..1, and average precision is computed.
        PER_SAMPLE_RESULTS: ``-o`` writes a file for each sample.
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
# For images of any name; the defaults are those of ICDAR2015.
ANY_GT_NAME = r'gt_(.+)\.txt'
ANY_DET_NAME = r'res_(.+)\.txt'


def parse_parameters(text: Optional[str]) -> Parameters:
    """Reads the value of ``-p``.

    Args:
        text: a JSON object with some of the names of ``Parameters``; None keeps all defaults.

    Returns:
        The parameters, defaults where the object names none.

    Raises:
        ProtocolError: it is not such an object, or a name or value is not allowed.
    """
    if text is None:
        return DEFAULT_PARAMETERS
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f'-p={shown(text)} is not valid JSON ({error}); it takes an object '
                            'such as {"IOU_CONSTRAINT": 0.5}') from None
    if not isinstance(given, dict):
        raise ProtocolError(f'-p={shown(text)} is not a JSON object; it takes one such as '
                            '{"IOU_CONSTRAINT": 0.5}')
    return Parameters(**_checked(given))


def _checked(given: Dict[str, Any]) -> Dict[str, Any]:
    defaults = DEFAULT_PARAMETERS._asdict()
    for name, value in given.items():
        if name not in defaults:
            raise ProtocolError(f'-p knows no parameter {shown(name)}; there are '
                                f'{", ".join(defaults)}')
        problem = _problem(value, defaults[name])
        if problem:
            raise ProtocolError(f'-p: {name} must be {problem}, not {shown(json.dumps(value))}')
    return given


def _problem(value: Any, default: Any) -> Optional[str]:
    """Describes what the value must be, given the default's type; None if it is valid."""
    if isinstance(default, bool):
        return None if isinstance(value, bool) else 'true or false'
    if isinstance(default, float):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return None if number and 0 <= value <= 1 else 'a number from 0 to 1'
    try:
        valid = isinstance(value, str) and re.compile(value).groups >= 1
    except (re.error, RecursionError, OverflowError):
        valid = False
    return None if valid else 'a regular expression whose first group is the id of the sample'
