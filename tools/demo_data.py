"""Writes a synthetic data set in the official ICDAR2015 form: pictures, regions and gt.zip.

    python -m tools.demo_data --out=demo/data --train_images=300 --test_images=60

The same flags and library versions give the same bytes. A data set that is there already is left
alone; one that was cut short, or was made with other flags, is made anew.
"""


from absl import flags

from tools.demo_synth.dataset import DatasetSpec, ensure_dataset
from utils import cli
from utils.utils_tool import logger


def define_demo_data_flags() -> None:
    """Defines the flags of this command; their defaults are those of DatasetSpec."""
    group = cli.group('demo data')
    default = DatasetSpec()
    cli.define_path('out', './demo/data', 'folder to write to; must be absent, empty, or hold '
                    'an earlier data set of this command, which is replaced', **group)
    flags.DEFINE_integer('train_images', default.train_images, 'pictures to train on', **group)
    flags.DEFINE_integer('test_images', default.test_images, 'held-out pictures', **group)
    flags.DEFINE_integer('size', default.size, 'side of the square pictures in pixels', **group)
    flags.DEFINE_integer('seed', default.seed, 'number that every picture follows from', **group)


def main(_) -> None:
    """Makes the data set that the flags describe."""
    values = flags.FLAGS
    spec = DatasetSpec(values.train_images, values.test_images, values.size, values.seed)
    made = ensure_dataset(values.out, spec)
    logger.info('%s: %d training and %d test pictures %s', values.out, spec.train_images,
                spec.test_images, 'written' if made else 'are there already')


if __name__ == '__main__':
    define_demo_data_flags()
    cli.run(main, __doc__)
