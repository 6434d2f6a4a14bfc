//! HTTP: batches of requests, clients for single calls, and what a cluster's machines send for either side of
//! `fetch(on=)`.

mod bodies;
pub mod client;
pub mod expressions;
pub mod fetch;
pub mod pager;
pub mod remote_fetcher;
pub mod remote_requests;
pub mod request;
