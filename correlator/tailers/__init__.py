"""Adapters that turn what others write (files, the journal, archives) into chunks of whole lines."""
