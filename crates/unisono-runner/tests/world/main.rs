//! The joint between source, engine, ledger, journal and notes, crossed: what each part promises alone, all together
//! keep.
//!
//! [`World`](world::World) runs the real run over a scripted kind of work ([`peer`]), with a results file on the real
//! disk and time that is virtual. The peer keeps the ledger of what was begun and what became of it, which no crash
//! takes away; [`model`] holds each run against it, by laws and without knowing how anything is done. [`examples`] are
//! crosses by name, [`properties`] are plans, runs, stops and crashes at random (`UNISONO_WORLD_CASES` says how many).
//!
//! Left out: what a crash can do between two system calls of the journal, which its own tests cut at each step, and
//! real processes, which `tests/ledgers.py` kills.

mod examples;
mod model;
mod peer;
mod properties;
mod twins;
mod world;
