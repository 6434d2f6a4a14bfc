//! The engine: many independent items, run by one job, under limits. It knows no I/O.
