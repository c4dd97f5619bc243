"""The example at the head of ``force_client``, run against a real broker and real adapters."""

from __future__ import annotations

from datetime import timedelta

import force_client
from deploy.local.demo import AUTHORISER, FORCE, OFFICER
from deploy.local.place import Place
from deploy.local.processes import Processes
from tests.examples import run_examples
from trust.clock import utc_now


async def test_the_packages_example_does_what_it_says(federation: Processes, place: Place) -> None:
    names = {
        "config": place.config(FORCE),
        "OFFICER": OFFICER,
        "AUTHORISER": AUTHORISER,
        "probe_file": place.probes / "suspect-good.npy",
        "captured_at": utc_now() - timedelta(hours=12),
    }
    assert await run_examples(force_client.__doc__, names)
