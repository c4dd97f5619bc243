"""Migrations of the adapter's own tables."""
