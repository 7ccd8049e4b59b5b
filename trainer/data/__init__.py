"""Shards in and out, and the loader that turns them into batches."""
