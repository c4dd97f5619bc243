"""The ``probegate`` command: one module for each role, loaded when its command is run.

``main`` turns everything that can go wrong into one line and an exit status; ``output`` and
``config`` are what the roles share.
"""
