"""Readers of the files that users write; the only place that knows file formats. Makes frozen settings."""
