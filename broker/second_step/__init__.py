"""What follows a search at the broker: images, reviews, disclosure, recalls.

``rules`` is the pure core of review. ``commands`` are what a force asks for; ``handing``,
``notifying`` and ``recalling`` are what the broker does by itself with what it has recorded. What
is under way is in the database and nowhere else, so that a restart changes nothing.
"""
