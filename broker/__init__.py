"""The broker: admits a force's order, decides, records, asks agencies, and signs what came of it.

It is blind: probes pass through it sealed, and it never holds a template or a name (promise 2). It
is on the record: nothing is asked of anybody before the log says so (promise 1).

Example, one broker in this process::

    broker = await Broker.open(BrokerSettings(...))
    server = await broker.listen()
    ...
    await server.stop()
    await broker.close()

Module map, from the edge inwards:

- ``service``: what a broker process opens, keeps fresh and closes; ``settings``.
- ``servicer``, ``wire``: gRPC in and out; the stubs end here.
- ``commands``: what can be asked, one transport-free command each.
- ``admission``, ``decisions``, ``reports``, ``leaves``: the pure rules: may this order be decided,
  what is decided, may this answer be believed, what does the log say.
- ``searches``: one search from its recording to its signed end; ``ending``: that end, and the one
  that replaces it; ``held``, ``held_store``: asking for answers that an agency holds for a person.
- ``dispatch``, ``links``, ``backoff``: asking one agency, and what is remembered of it.
- ``store``, ``tables``, ``migrations``: searches in the database they share with the log.
"""
