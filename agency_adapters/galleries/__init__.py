"""An agency's gallery: import, storage and exact matching.

``importing`` makes a gallery from an agency's export, ``store`` opens and checks it, ``matching``
ranks it against one probe, and ``templates`` decodes the probe and wipes it afterwards.
"""
