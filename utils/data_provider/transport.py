"""What carries batches from a worker process to its consumer; all that knows how they travel."""

from multiprocessing.connection import Connection
from typing import Any, Optional

import numpy as np

from utils.data_provider.batching import PackedBatch


class RemoteError(RuntimeError):
    """An exception in a worker process; its cause holds the traceback from there."""


class _RemoteTrace(Exception):  # noqa: N818 - Python prints it above the RemoteError
    """Shows the traceback where Python prints the cause of an exception."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class BatchChannel:
    """One end of a socket pair: a job goes to the worker, then batches, or a failure, come back.

    Args:
        connection: duplex connection; the channel owns it from now on.
    """

    def __init__(self, connection: Connection):
        self._connection = connection

    def send_job(self, job: Any) -> None:
        """Sends what the worker needs to begin; anything that can be pickled."""
        self._connection.send(job)

    def receive_job(self) -> Any:
        """Waits for the job. Raises EOFError or OSError when the consumer is gone."""
        return self._connection.recv()

    def send_batch(self, batch: PackedBatch) -> None:
        """Sends a batch; blocks until the consumer takes it."""
        self._connection.send((batch.indices, batch.report, batch.images.shape,
                               batch.targets.shape))
        self._connection.send_bytes(batch.images.reshape(-1))
        self._connection.send_bytes(batch.targets.reshape(-1))

    def send_failure(self, trace: str) -> None:
        """Sends the traceback, as text, that ends this worker's batches."""
        self._connection.send(trace)

    def receive_batch(self) -> PackedBatch:
        """Takes the next batch; its arrays cannot be written to.

        Raises:
            RemoteError: the worker sent a failure.
            EOFError, OSError: the worker is gone.
        """
        message = self._connection.recv()
        if isinstance(message, str):
            reason = message.rstrip().rsplit('\n', 1)[-1]
            raise RemoteError(f'A reader process failed: {reason}') from _RemoteTrace(message)
        indices, report, image_shape, target_shape = message
        return PackedBatch(indices, self._receive_array(image_shape),
                           self._receive_array(target_shape), report)

    def _receive_array(self, shape) -> np.ndarray:
        return np.frombuffer(self._connection.recv_bytes(), np.uint8).reshape(shape)

    def wait(self, seconds: Optional[float]) -> bool:
        """Whether, within this time, there is something to receive, the other side's end included.

        Args:
            seconds: how long to wait; None for as long as it takes.
        """
        return self._connection.poll(seconds)

    def close(self) -> None:
        """Lets go of the connection, which the other side takes for the end."""
        self._connection.close()
