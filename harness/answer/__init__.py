"""Policies that answer: loading, chat templates, sampling, and models behind an endpoint."""
