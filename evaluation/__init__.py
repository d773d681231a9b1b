"""Scores detections by the protocol of ICDAR2015 Incidental Scene Text, Task 4.1 (localisation).

The folder stands alone: it imports nothing of the project but itself, needs only NumPy, and
``python evaluation/script.py`` runs from any working directory. Data flows one way: ``archive``
(entries of a zip) -> ``protocol`` (boxes of a sample) -> ``matching`` (pairs of boxes, on the areas
of ``overlap``) -> ``report`` (precision, recall, hmean, AP, and the files of ``-o``).
"""
