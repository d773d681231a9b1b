"""Event files as training writes them."""

import tensorflow as tf

_NUMBER = iter(range(10 ** 6))


def write_events(directory, points, tags=('total_loss',), start=0, steps_per_second=1.0,
                 restart_at=None):
    """Writes (step, value) pairs to a new file and returns its path; a mark of a restart first."""
    # The name decides the order of files, and has nothing finer than seconds.
    path = directory / f'events.out.tfevents.{next(_NUMBER):010}.host'
    writer = tf.io.TFRecordWriter(str(path))
    events = [tf.compat.v1.Event(wall_time=start, file_version='brain.Event:2')]
    if restart_at is not None:
        mark = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
        events.append(tf.compat.v1.Event(wall_time=start, step=restart_at, session_log=mark))
    for step, value in points:
        values = [tf.compat.v1.Summary.Value(tag=tag, simple_value=value) for tag in tags]
        events.append(tf.compat.v1.Event(wall_time=start + step / steps_per_second, step=step,
                                         summary=tf.compat.v1.Summary(value=values)))
    for event in events:
        writer.write(event.SerializeToString())
    writer.close()
    return str(path)
