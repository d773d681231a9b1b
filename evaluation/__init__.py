"""Scoring by the protocol of ICDAR2015 Incidental Scene Text, Task 4.1 (localisation).

The package is self-contained: it imports no other part of the project, needs only NumPy, and
``python evaluation/script.py`` runs from any working directory. Data flows one way: ``archive``
(entries of a zip) -> ``protocol`` (boxes of a sample) -> ``matching`` (pairs of boxes, using the
areas of ``overlap``) -> ``report`` (precision, recall, Hmean, AP, and the files of ``-o``).
"""
