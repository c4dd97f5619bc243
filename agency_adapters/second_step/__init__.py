"""What follows a search that listed candidates, at the agency: images, releases, notices, recalls.

Nothing here is answered without a proof that the broker's log has the request (``papers``), and
everything that comes of a request, a refusal too, is an entry of this agency's search log.
"""
