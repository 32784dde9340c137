"""Tokens: whose keys count, and what a token that one of them has signed allows."""
