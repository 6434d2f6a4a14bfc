"""Pools of worker processes and of threads, single jobs, and their futures."""
