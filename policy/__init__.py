"""Data-sharing agreements as law-readable data, and the pure decision on them.

An agreement is a YAML file that a data-protection officer can read aloud and a machine can decide.
The broker and the agency each decide on the same signed bundle of agreements; the stricter answer
stands. Default deny: no agreement, an unknown word or a missing fact is a denial that names every
clause that failed.

Example::

    >>> from datetime import UTC, datetime
    >>> from importlib.resources import files
    >>> from pathlib import Path
    >>> from policy.agreements import read_folder
    >>> from policy.bundle import unsigned_bundle_for_dry_run
    >>> from policy.decision import compile_bundle
    >>> from policy.facts import Facts
    >>> examples = read_folder(Path(str(files("policy") / "examples")))
    >>> policy = compile_bundle(unsigned_bundle_for_dry_run(examples, ["northshire"]))
    >>> facts = Facts(force="northshire", purpose="civil_penalty", legal_basis="pace_s64a")
    >>> decision = policy.decide(facts, "custody", datetime(2026, 6, 1, tzinfo=UTC))
    >>> decision.code.value, "core.gateway-for-purpose" in decision.failed
    ('CLAUSES_FAILED', True)

Modules, from the words to the wire:

- ``codes`` (and ``codes.yaml``): every word a request or an agreement may use.
- ``facts``: what a decision may read: the attribute table, ``Facts``, ``facts_of_order``.
- ``standing``, ``reasons``: what comes from the decider's own records, and from officers' words.
- ``clause_model``, ``agreements``: an agreement as frozen models, loaded strictly.
- ``yaml_source``: strict YAML, with errors that name file, line and field.
- ``clauses``, ``core_clauses``, ``standing_clauses``: clauses compiled to total, three-valued
  closures; ``table``: all of them asked at once.
- ``decision``: ``compile_bundle``, ``CompiledPolicy.decide``, ``Decision``, ``enforced``.
- ``bundle``, ``store``: signing, verifying, remembering and keeping bundles.
- ``ledger``: the decider's own records in a database, and its kill switches.
- ``explain``, ``cases``, ``schema``: what people read.
- ``representatives``, ``cells``, ``boxes``, ``regions``, ``witnesses``: what agreements permit, as
  products of sets; on them ``lint``, ``diff`` and ``coverage``. ``simulate``: recorded decisions
  made again.
- ``cedar``, ``cedar_terms``: agreements as Cedar, for a second opinion in the tests.
- ``settings``: limits on what is read and held.
- ``examples``: conservative example agreements with case tables; not legal advice.
"""
