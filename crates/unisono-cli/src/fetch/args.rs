//! The words of `unisono fetch`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use unisono_core::Span;
use unisono_runner::{BodyMode, http_client::StatusSet};

use crate::args::{InputFormat, LimitArgs, OutputArgs, ShowArgs, from_zero, size};

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct FetchArgs {
    /// URLs; `{1..500}` and `{eu,us}` stand for each of their values, `{name}` for a column of --from
    #[arg(value_name = "URL")]
    pub urls: Vec<String>,
    /// Read rows from this file, or from standard input (`-`)
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// How --from is written [default: by its extension, else lines]
    #[arg(long, value_name = "FORMAT")]
    pub input_format: Option<InputFormat>,
    /// The row's name, as a template: `{region}-{id}` [default: r0, r1, ...]
    #[arg(long, value_name = "TEMPLATE")]
    pub id: Option<String>,
    /// Show what would be sent, and send nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub request: RequestArgs,
    #[command(flatten)]
    pub connection: ConnectionArgs,
    #[command(flatten)]
    pub answer: AnswerArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    /// Outcomes in the order of the input
    #[arg(short, long, help_heading = "Results")]
    pub keep_order: bool,
    #[command(flatten)]
    pub show: ShowArgs,
}

#[derive(Args)]
#[command(next_help_heading = "Requests")]
pub struct RequestArgs {
    /// The method [default: GET, or POST with a body]
    #[arg(short = 'X', long, value_name = "METHOD")]
    pub method: Option<String>,
    /// A header, `Name: value`; `@FILE` reads one per line
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    pub headers: Vec<String>,
    /// A JSON body; `@FILE` reads it
    #[arg(long, value_name = "JSON", conflicts_with = "data")]
    pub json: Option<String>,
    /// A body; `@FILE` reads it
    #[arg(long, value_name = "TEXT")]
    pub data: Option<String>,
    /// User name and password, `NAME:PASSWORD`
    #[arg(long, value_name = "USER", conflicts_with_all = ["bearer_env", "token_command"])]
    pub user: Option<String>,
    /// A bearer token from this environment variable
    #[arg(long, value_name = "VARIABLE", conflicts_with = "token_command")]
    pub bearer_env: Option<String>,
    /// A bearer token from this shell command, which runs again when the token is refused
    #[arg(long, value_name = "COMMAND")]
    pub token_command: Option<String>,
    /// User names and passwords from a netrc file [default: $NETRC or ~/.netrc]
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub netrc: Option<String>,
    /// Give each request that is not idempotent an Idempotency-Key, the same on each attempt and after --resume
    #[arg(long)]
    pub idempotency_key: bool,
    /// Keep cookies and send them back
    #[arg(long)]
    pub cookies: bool,
}

#[derive(Args)]
#[command(next_help_heading = "Connections")]
pub struct ConnectionArgs {
    /// Longest time to connect: name lookup, TCP, proxy and TLS
    #[arg(long, value_name = "TIME", default_value = "5s")]
    pub connect_timeout: Span,
    /// Only HTTP/1.1
    #[arg(long, conflicts_with = "http2")]
    pub http1: bool,
    /// Only HTTP/2; without TLS by prior knowledge
    #[arg(long)]
    pub http2: bool,
    /// Trust the certificates in this file (PEM) and no others
    #[arg(long, value_name = "FILE")]
    pub cacert: Vec<PathBuf>,
    /// Our certificate chain (PEM), with the key unless --cert-key is given
    #[arg(long, value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// The key of --cert (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub cert_key: Option<PathBuf>,
    /// Trust any certificate; for tests only
    #[arg(long)]
    pub insecure: bool,
    /// Proxy for everything: http, https, socks5 or socks5h URL; empty for none [default: from the environment]
    #[arg(long, value_name = "URL")]
    pub proxy: Option<String>,
    /// Hosts and networks that are reached without proxy [default: $NO_PROXY]
    #[arg(long, value_name = "LIST")]
    pub noproxy: Option<String>,
    /// Where a host is, instead of asking DNS: `HOST:PORT:ADDRESS[,ADDRESS]`, with `*` for any port
    #[arg(long, value_name = "PLACE")]
    pub resolve: Vec<String>,
    /// Only IPv4
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// Only IPv6
    #[arg(short = '6', long)]
    pub ipv6: bool,
    /// Connect to this Unix socket, whatever the URL says
    #[arg(long, value_name = "PATH")]
    pub unix_socket: Option<PathBuf>,
    /// Have the requests sent by the machines of a cluster: `dask://HOST:PORT` or `ray://HOST:PORT`; limits hold for
    /// all of them together
    #[arg(long, value_name = "ADDRESS")]
    pub on: Option<String>,
}

#[derive(Args)]
#[command(next_help_heading = "Answers")]
pub struct AnswerArgs {
    /// Statuses that are a success: `200,404`, `2xx` [default: 2xx and 304]
    #[arg(long, value_name = "LIST")]
    pub expect: Option<StatusSet>,
    /// Most redirects to follow; 0 takes a redirect for the answer
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = from_zero::<u8>)]
    pub max_redirects: u8,
    /// Largest body, decoded
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = size)]
    pub max_body: u64,
    /// Give up a body that comes in slower than this per second
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub min_throughput: Option<u64>,
    /// Do not ask for compressed bodies
    #[arg(long)]
    pub no_compression: bool,
    /// How bodies are written
    #[arg(long, value_name = "HOW", default_value = "json")]
    pub body: BodyFormat,
    /// Write the headers of answers as well
    #[arg(long)]
    pub include_headers: bool,
    /// Keep only what this jq expression makes of a body
    #[arg(long, value_name = "EXPRESSION")]
    pub select: Option<String>,
    /// Follow pages: `link`, `next=.next_url` or `page=page,until=.items|length==0`
    #[arg(long, value_name = "HOW", conflicts_with = "save")]
    pub paginate: Option<String>,
    /// Most pages per row
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = from_zero::<u32>)]
    pub max_pages: u32,
    /// Save each body to a file of its own: `out/{id}.json`
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "select")]
    pub save: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BodyFormat {
    /// JSON as it was sent; else as text, or as base64
    Json,
    /// As a string
    Text,
    /// As base64
    Base64,
    /// Not at all
    None,
}

impl From<BodyFormat> for BodyMode {
    fn from(body: BodyFormat) -> Self {
        match body {
            BodyFormat::Json => Self::Json,
            BodyFormat::Text => Self::Text,
            BodyFormat::Base64 => Self::Base64,
            BodyFormat::None => Self::None,
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  unisono fetch 'https://api.example.com/items/{1..500}' -o items.jsonl --resume
  unisono fetch --from hosts.csv 'https://{host}/health' --per-host-rate 5/s
  unisono fetch --from calls.jsonl --limit 50 --select '.items[].id' | jq -c .body

Exit status:
  0 all ok · 1 some item did not end well · 2 usage · 3 stopped by --max-failures or --canary · 124 by --stop-after
  125 our own failure · 130 interrupted · 141 nobody reads the output any more · 143 terminated";
