//! From a plan to a report: input, engine, journal and sinks joined.
