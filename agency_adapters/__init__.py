r"""An agency's side: its gallery, its own decision, exact matching inside its own walls.

An adapter believes nobody. It checks the broker's and the force's signatures, the proof that the
request is on the broker's log, and the agreements, by itself; only then does it open the probe, and
whatever it answers is on its own log first. Records leave it as opaque references and scores.

Example::

    probegate adapter import --kind custody --templates faces.npz --records records.csv \
        --model example-model-1 --out gallery
    probegate adapter check --gallery gallery
    probegate adapter serve --config adapter.toml

======================  ===========================================================================
``agency``              what a kind of agency is: record model, eligibility and order rules
``registry``            the kinds: ``custody``, ``pnd``, ``passport``, ``asylum``, ``nhs``, ``dwp``
``galleries``           import, storage, exact matching
``calibration``         what a score is worth: fitted, signed, applied
``checks``              the gate: every rule a request must pass, numbered
``evidence``            what the broker's log proves of earlier searches and confirmations
``ruling``              the agency's own decision, on its own records, and what they keep of it
``command``             one request from its papers to the signed report
``holding``             answers that wait for the agency's own people, as they are kept
``inbox``               what those people do about them, logged before it counts
``deciding``            from what they decided to the report that follows
``collect``             handing an answer again to the broker that was answered
``recording``           what goes on the search log before anything is said
``references``          opaque references, new for every search
``state``, ``tables``   what is remembered, in one database with the logs
``operators``           what the agency's own people do, logged before it is done
``serve``, ``servicer``, ``wire``, ``settings``   the process around it
======================  ===========================================================================
"""
