r"""What an agency's scores are worth: fitted on its own comparisons, signed, dated, and ending.

A cosine similarity means nothing to a detective. A calibration says, for one matcher on one kind of
gallery and for probes of one band of quality, how strongly a score supports that two images are of
one person (a likelihood ratio), and how many innocent people of the gallery would score as high.

Example::

    probegate adapter calibrate scores.csv --name custody-2026-11 --config adapter.toml \
        --out calibration.json --band 20-44 --band 45-69 --band 70-100 --plots plots

=================  =================================================================================
``scorefile``      reading mated and non-mated scores, each bad row by number
``scales``         from a score to log10 LR: logistic, PAV
``fitting``        fitting either, and where the data end (ELUB)
``evaluation``     Cllr, Cllr-min, Cllr-cal, on the data themselves and held out
``false_matches``  the false match rate at a score, with its interval
``tail``           fitting that from non-mated scores, beyond the last of them too
``errors_at``      error rates at operational thresholds, by group where the data have groups
``artefact``       the calibration as it is signed, and what it says of one candidate
``calibrating``    from a score file to a calibration, or a refusal
``signing``        signing one; the rules by which one is trusted; the one in use
``plots``          DET, Tippett and score plots (extra ``plots``)
=================  =================================================================================
"""
