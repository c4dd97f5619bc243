"""Exact search over large galleries, beside other engines."""
