//! Durable outcomes: append, recover after a crash, resume.
