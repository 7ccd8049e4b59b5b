"""The event log over HTTP: pages and live streams."""
