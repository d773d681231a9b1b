"""Draws the demo's scenes: words of known outline on backgrounds that compete with them.

``scene.draw_scene`` is what the rest of the project calls. ``background`` makes what stands behind
the text, ``words`` the text itself. All randomness arrives as an ``np.random.RandomState``; colours
are BGR, 0..255, and positions are x, y in pixels of the finished image.
"""
