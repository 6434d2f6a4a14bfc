//! What tests need: a scripted server with faults, a ledger, certificates.
