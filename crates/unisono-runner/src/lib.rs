//! From a plan to a report: input, engine, journal and sinks joined.
//!
//! [`Input`] reads rows on a thread of its own; a run takes them through the batch engine, writes each outcome to the
//! journal or hands it to a program ([`outlet()`]), and returns a [`Report`]. What differs between kinds of work is a
//! [`Call`], a [`Done`] and how one is tried; the rest is there once. Faces turn words into a plan and a report into
//! words; everything between is here, so that no face can do what another cannot.

mod body;
mod canary;
mod clash;
mod each;
mod error;
mod fetch;
mod fifo;
mod functions;
pub mod fuzzing;
mod gauge;
mod halt;
mod histogram;
mod input;
mod ledger;
mod notes;
mod outcome;
mod outlet;
mod pages;
mod report;
mod row;
mod run;
mod saves;
mod source;
mod stages;
mod sum;
mod template;
mod top_errors;
mod twins;
mod work;

/// The seam between a run and a kind of work, for tests that bring a kind of their own (`tests/world`). No promise to
/// others.
#[doc(hidden)]
pub mod testing {
    pub use crate::{
        pages::Pages,
        run::{Extras, run},
        twins::{Name, Prepare},
        work::{Item, Work},
    };
}

pub use body::{BodyMode, json_error, unmarked};
pub use clash::{Named, refuse_same};
pub use each::{
    CommandResult, EachCall, EachMaker, EachPlan, EachStyle, Grammar, Items, KILL_AFTER, OnStopped, Pieces, Places,
    Recipe, Safety, Separator, Tagged, Values, Word, Worst, blocks, each, each_settings, push_word, script,
};
pub use error::Error;
#[doc(hidden)]
pub use fetch::next_targets;
pub use fetch::{
    BadNetrc, Carrier, Defaults, EvaluatorCommand, FetchCall, FetchPlan, FetchStyle, Fetched, Filter, Login, Netrc,
    Paginate, ROW_BODIES, ROW_OPTIONS, RemoteSender, RowBody, RowOptions, RowRequest, body_of_words, fetch, header,
    method, remote_requests, serve_expressions,
};
pub use functions::{
    CallEnd, CallResult, FunctionCall, FunctionPlan, Invocation, Returned, function_calls, function_settings, functions,
};
pub use gauge::Gauge;
pub use histogram::Histogram;
pub use input::{Feed, Format, Input, RowBatch};
pub use ledger::Listing;
pub use outcome::RowOutcome;
pub use outlet::{Inlet, Intake, Notifier, Outlet, Taken, Taker, inlet, outlet};
pub use report::{KeyReport, Report};
pub use row::{LineNumber, Maker, NoFields, Row, RowFields, RowIndex, RowJson, RowOrigin};
pub use run::{Destination, Frame, cores};
pub use saves::Saving;
pub use stages::Halting;
pub use sum::{
    Bare, CheckVerdict, DigestResult, Expected, FileCall, FileTask, Files, GivenPath, ManifestOut, ManifestTally,
    Manifests, Outputs, SumPlan, VerifyOptions, Way, path_rows, resolved, results_of, sum, sum_settings, tree_rows,
    verify_rows, way_to_write,
};
pub use template::Template;
pub use top_errors::{ErrorCount, TopErrors};
pub use unisono_batch::{
    Absent, Assignments, KeyNews, Monitor, Numbers, Outstanding, Settings, UnattachedPool, WorkNotifier,
};
pub use unisono_commands as commands;
pub use unisono_files as file_tools;
pub use unisono_hash as hash;
pub use unisono_http as http_client;
pub use unisono_journal::{Identity, Mode, Open, RerunCounts, RerunMode};
pub use work::{Call, Done, OnEvent, Retry, RunEvent, Subject};
