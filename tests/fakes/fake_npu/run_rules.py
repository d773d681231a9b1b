"""What may differ between the runs of a process; NPU.md, sections 8, 10 and 13.

The device compiles each distinct set of fetches once, for the shapes that it was first fed.
"""

from typing import Any, Dict, FrozenSet, List, NamedTuple, Tuple

import numpy as np
import tensorflow as tf

from fake_npu import record
from fake_npu.graph_rules import kind_of, offload_faults, placement_faults
from fake_npu.refusal import refuse, refuse_first

ITERATIONS = 'fake_npu_iterations'
TAILING = 'fake_npu_tailing'
HOST_SCOPE = 'fake_npu_without_npu_compile'
Key = Tuple[tf.Graph, FrozenSet[str], FrozenSet[str]]


class Run(NamedTuple):
    """A session.run as the checks see it."""

    graph: tf.Graph
    fetches: List[str]
    feeds: Dict[str, Any]      # name of a tensor -> what is fed
    reached: FrozenSet[tf.Operation]


class RunRules:
    """Remembers what was run."""

    def __init__(self):
        self._shapes: Dict[Key, Dict[str, tuple]] = {}
        self._kinds: Dict[Key, str] = {}

    def check(self, run: Run, parameters: Dict[str, Any]) -> str:
        """Refuses a run that the device would not do as the CPU does.

        Args:
            run: what is about to be run.
            parameters: of the session's NpuOptimizer.

        Returns:
            The kind of the run: train, compute or host.

        Raises:
            AssertionError: see the module.
        """
        key = (run.graph, frozenset(run.fetches), frozenset(run.feeds))
        shapes = {name: np.shape(value) for name, value in run.feeds.items()}
        if key not in self._shapes:
            kind = self._check_new(run, parameters)
            record.write('run', kind=kind, fetches=sorted(run.fetches), feeds=shapes)
            self._shapes[key] = shapes if kind != 'host' else {}
            self._kinds[key] = kind
        for name, shape in self._shapes[key].items():
            if shapes[name] != shape:
                refuse(f'{name} is fed the shape {shapes[name]}, and was compiled for {shape}')
        return self._kinds[key]

    def _check_new(self, run: Run, parameters: Dict[str, Any]) -> str:
        refuse_first(placement_faults(run.reached))
        with run.graph.as_default():
            kind = kind_of(run.reached)
        if kind != 'host':
            refuse_first(offload_faults(run.reached))
            if run.graph.get_collection(HOST_SCOPE) and not parameters.get('mix_compile_mode'):
                refuse('without_npu_compile_scope has no effect without mix_compile_mode')
        if kind == 'train':
            _check_iterations(run, parameters.get('iterations_per_loop', 1))
            _check_tailing(run, parameters.get('is_tailing_optimization', False))
        return kind


def _check_iterations(run: Run, iterations: int) -> None:
    """The loops of the device: the same number in the script and in the configuration."""
    loops = [steps for op, steps in run.graph.get_collection(ITERATIONS) if op in run.reached]
    if (loops or [1]) != [iterations]:
        refuse(f'iterations_per_loop={iterations} in the session, and set_iteration_per_loop got '
               f'{loops or "no call"}')
    if iterations == 1:
        return
    if run.feeds:
        refuse(f'iterations_per_loop={iterations} with feeds: each step would see the same')
    if any(op.type == 'OneShotIterator' for op in run.reached):
        refuse(f'iterations_per_loop={iterations} does not go with a one-shot iterator')


def _check_tailing(run: Run, tailing: bool) -> None:
    if any(own != tailing for own in run.graph.get_collection(TAILING)):
        refuse(f'is_tailing_optimization={tailing} in the session, and the NPUOptimizer was told '
               'otherwise')
