//! What a results file promises, on real files.

mod doubts;
mod files;
mod rows;
mod support;
