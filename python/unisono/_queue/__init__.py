"""Queues between threads and coroutines, and limits without a batch."""
