"""What every resource needs of HTTP, written once: problems, idempotency, paging."""
