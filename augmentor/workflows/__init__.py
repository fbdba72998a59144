"""Composes the steps over all floors; the only place that does."""
