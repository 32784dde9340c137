"""Measuring a deployment with sessions of its own: what `fabricctl bench` does."""
