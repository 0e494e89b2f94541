"""The documentation site: pages from ``docs/``, and reference pages that are made from the code when the site is built.

``python -m docsite OUT`` writes the sources that the site generator reads; ``python -m docsite --finish SITE`` typesets
the formulas of the built site and checks it. ``python -m nox -s docs`` does both, with the build in between.
"""
