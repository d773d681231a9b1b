"""What the variables of a rank hold once it has had some from another, for the record."""

import hashlib
from typing import Callable

import numpy as np
import tensorflow as tf
from tensorflow.python.client.session import BaseSession

from fake_npu import record


def digest(value: np.ndarray) -> str:
    """A short text that differs for arrays that differ in a bit."""
    return hashlib.blake2b(np.ascontiguousarray(value).tobytes(), digest_size=8).hexdigest()


def record_variables(session: BaseSession, run: Callable) -> None:
    """Writes the digest of each global variable into the record, if there is one.

    Args:
        session: that of the rank.
        run: of the session, unwatched.
    """
    if not record.wanted():
        return
    with session.graph.as_default():
        variables = tf.global_variables()
    values = run(session, variables)
    record.write('variables', digests={variable.op.name: digest(value)
                                       for variable, value in zip(variables, values)})
