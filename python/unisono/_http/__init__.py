"""HTTP: batches of requests, and clients for single calls."""
