"""Report on a training directory: text for a terminal, and charts."""

import collections
from typing import Any, List

import numpy as np

from tools.curves import new_figure, save_figure
from utils.data_provider.datasets import DatasetCounts, Findings, Inspection
from utils.data_provider.survey import Survey
from utils.utils_tool import cfg

_SHOWN_SIZES = 5
_TITLES = Findings(unlabelled_images='images without a label',
                   unused_labels='label files without an image',
                   unreadable='pairs that cannot be read',
                   invalid_polygons='regions of less than one square pixel in their image',
                   turned_images='images with an EXIF orientation, which is ignored; give '
                                 '--apply_exif_orientation if the labels were drawn on upright '
                                 'images')


def format_report(directory: str, inspection: Inspection, survey: Survey, shown: int) -> str:
    """Formats the report.

    Args:
        directory: the inspected directory.
        inspection: inspection of the directory.
        survey: survey of its samples.
        shown: number of findings of each kind to list; 0 for all.

    Returns:
        Lines of text.
    """
    parts = [[f'Training data in {directory}'], _count_lines(inspection.counts)]
    if survey.sizes:
        parts += [_size_lines(survey), _survival_lines(survey)]
    parts += _finding_parts(inspection.findings, shown)
    return '\n\n'.join('\n'.join(part) for part in parts)


def _count_lines(counts: DatasetCounts) -> List[str]:
    return [f'{counts.images:8} images', f'{counts.labels:8} label files',
            f'{counts.pairs:8} pairs of image and label',
            f'{counts.unreadable:8} of them unreadable',
            f'{counts.usable_images:8} usable images', f'{counts.boxes:8} regions in these',
            f'{counts.ignored_boxes:8} ignored',
            f'{counts.invalid_polygons:8} invalid',
            f'{counts.repaired_polygons:8} self-crossing and repaired',
            f'{counts.crossing_polygons:8} self-crossing beyond repair, ignored',
            f'{counts.usable_regions:8} usable regions']


def _size_lines(survey: Survey) -> List[str]:
    sizes = collections.Counter(survey.sizes).most_common()
    lines = [f'{count:8} images of {width} x {height} pixels'
             for (height, width), count in sizes[:_SHOWN_SIZES]]
    if sizes[_SHOWN_SIZES:]:
        rest = sum(count for _, count in sizes[_SHOWN_SIZES:])
        lines.append(f'{rest:8} images of {len(sizes) - _SHOWN_SIZES} other sizes')
    if survey.learnt_sides:
        low, middle, high = np.percentile(survey.learnt_sides, [5, 50, 95])
        lines.append(f'shorter side of usable regions: median {middle:.0f} pixels, 90 % from '
                     f'{low:.0f} to {high:.0f}')
    return lines


def _survival_lines(survey: Survey) -> List[str]:
    lines = ['usable regions whose kernels survive, by shrink ratio',
             'input size       ' + ''.join(f'{ratio:8.1f}' for ratio in cfg.KERNEL_SCALES)]
    for survival in survey.survivals:
        for name, shares in zip(('whole', 'crops'), survival.shares()):
            lines.append(f'{survival.input_size:10} {name} '
                         + ''.join('       -' if np.isnan(share) else f'{100 * share:6.1f} %'
                                   for share in shares))
    return lines


def _finding_parts(findings: Findings, shown: int) -> List[List[str]]:
    parts = []
    for title, found in zip(_TITLES, findings):
        if found:
            listed = found[:shown] if shown else found
            more = len(found) - len(listed)
            parts.append([f'{len(found)} {title}:', *('  ' + line for line in listed),
                          *([f'  and {more} more; --show=0 lists all'] if more else [])])
    return parts or [['no problems found']]


def draw_survey(survey: Survey, path: str) -> None:
    """Draws sizes of images and regions, regions per image, and survival of regions.

    Args:
        survey: survey of at least one sample.
        path: image file to write.

    Raises:
        PSENetError: the file cannot be written.
    """
    figure = new_figure(12, 8.5)
    (sizes, sides), (counts, survival) = figure.subplots(2, 2)
    _draw_sizes(sizes, survey)
    _draw_sides(sides, survey)
    _draw_counts(counts, survey)
    _draw_survival(survival, survey)
    for axes in (sizes, sides, counts):
        axes.yaxis.get_major_locator().set_params(integer=True)
    figure.suptitle(f'Training data: {len(survey.sizes)} usable images, '
                    f'{len(survey.learnt_sides)} usable regions')
    save_figure(figure, path)


def _draw_sizes(axes: Any, survey: Survey) -> None:
    heights, widths = np.array(survey.sizes).T
    bins = np.linspace(0, 1.05 * max(heights.max(), widths.max()), 31)
    axes.hist([widths, heights], bins, label=['width', 'height'])
    axes.set(title='Sizes of images', xlabel='pixels', ylabel='images')
    axes.legend()


def _draw_sides(axes: Any, survey: Survey) -> None:
    both = [np.maximum(sides, 1) for sides in (survey.learnt_sides, survey.ignored_sides)]
    top = max([2.0] + [sides.max() for sides in both if sides.size])
    axes.hist(both, np.geomspace(1, 1.05 * top, 41), stacked=True, color=['C2', 'C3'],
              label=['usable', 'ignored'])
    axes.set_xscale('log')
    axes.xaxis.set_major_formatter('{x:g}')
    axes.set(title='Shorter side of regions', xlabel='pixels of the image', ylabel='regions')
    axes.legend()


def _draw_counts(axes: Any, survey: Survey) -> None:
    most = max(survey.regions)
    step = max(1, round(most / 40))
    axes.hist(survey.regions, np.arange(0, most + step + 1, step) - 0.5, color='C2', rwidth=0.9)
    axes.set(title='Usable regions per image', xlabel='usable regions', ylabel='images')


def _draw_survival(axes: Any, survey: Survey) -> None:
    shares = 100 * np.concatenate([survival.shares() for survival in survey.survivals])
    axes.imshow(shares, cmap='RdYlGn', vmin=0, vmax=100, alpha=0.6, aspect='auto')
    for row, column in np.ndindex(shares.shape):
        text = '-' if np.isnan(shares[row, column]) else f'{shares[row, column]:.0f}'
        axes.text(column, row, text, ha='center', va='center')
    axes.set(title='Usable regions whose kernels survive, in percent',
             xlabel='shrink ratio', ylabel='input size in pixels')
    axes.set_xticks(range(cfg.NUM_KERNELS))
    axes.set_xticklabels(cfg.KERNEL_SCALES)
    axes.set_yticks(range(len(shares)))
    axes.set_yticklabels([f'{survival.input_size}, {name}' for survival in survey.survivals
                          for name in ('whole', 'crops')])
