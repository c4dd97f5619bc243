"""A whole federation on one machine: its scheme, agreements, galleries and processes.

Module map:

- ``people``, ``faces``, ``generate``: invented people, drawn faces, and the files an agency would
  import.
- ``place``: where everything of a local federation lies.
- ``setting_up``: makes the scheme, the agreements, the galleries and the configuration.
- ``processes``: starts, watches and stops the broker and the adapters.
- ``demo``: runs the demonstration's searches and checks what they found against the truth.
"""
