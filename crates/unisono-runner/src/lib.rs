//! From a plan to a report: input, engine, journal and sinks joined.
//!
//! [`Input`] reads rows on a thread of its own; [`fetch()`] runs them under the batch engine, writes each outcome to the
//! journal or hands it to a program ([`outlet()`]), and answers with a [`Report`]. Faces turn words into a [`FetchPlan`] and
//! a report into words; everything between is here, so that no face can do what another cannot.

mod body;
mod error;
mod fetch;
mod filter;
mod gauge;
mod histogram;
mod input;
mod job;
mod ledger;
mod maker;
mod netrc;
mod outcome;
mod outlet;
mod paginate;
mod report;
mod row;
mod save;
mod source;
mod template;
mod top_errors;

pub use body::{BodyMode, json_error};
pub use error::Error;
pub use fetch::{FetchPlan, Output, fetch};
pub use filter::Filter;
pub use gauge::Gauge;
pub use histogram::Histogram;
pub use input::{Batch, Feed, Format, Input};
pub use job::{OnRetry, Retry};
pub use maker::{Defaults, Own, header, method};
pub use netrc::{Login, Netrc};
pub use outcome::Outcome;
pub use outlet::{Bell, Inlet, Intake, Outlet, Taken, Taker, inlet, outlet};
pub use paginate::Paginate;
pub use report::{HostReport, Report};
pub use row::{Call, Fields, NoFields, Origin, Row};
pub use template::Template;
pub use top_errors::{ErrorCount, TopErrors};
pub use unisono_batch::{Monitor, Numbers, Settings};
pub use unisono_http as http_client;
pub use unisono_journal::{Mode, Open};
