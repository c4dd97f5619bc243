"""The JSON Schema of an agreement, for editors and for other implementations.

It says what the file may hold; what a value means for its attribute is checked on loading only.
"""

from __future__ import annotations

import json

from policy.agreements import Agreement


def agreement_schema() -> str:
    """Return the schema as JSON text."""
    return json.dumps(Agreement.model_json_schema(), indent=2, sort_keys=True) + "\n"
