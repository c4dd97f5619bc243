"""What follows a search that listed candidates: review, images, disclosure, recalls, exports.

From the wire to what people hold: ``wire`` (the broker's second-step services), ``models`` (what it
said, and what was verified of it), ``checks`` (receipts and signatures), ``images`` (candidates'
images, opened), ``sitting`` (one reviewer at the candidates), ``reviews`` (how reviews stand),
``disclosing`` (requests, decisions, details), ``recalls`` (and other notices), ``kept`` (what is on
this force's disk), ``exporting`` (what may leave it, and how it looks). ``calls_*`` are the
client's methods, ``sync`` the blocking ones.
"""
