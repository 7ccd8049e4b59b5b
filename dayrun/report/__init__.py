"""A run as one document that a decision can rest on: `gather` asks a service, `page` writes the HTML, `pdf` prints it."""
