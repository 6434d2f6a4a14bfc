//! `unisono fetch`: words into a plan, a plan into a run, a report into words.

use std::{
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use unisono_core::{Secret, Span, redacted};
use unisono_runner::{
    BodyMode, Defaults, FetchCall, FetchPlan, FetchStyle, Filter, Frame, Input, Named, Open, Paginate, Template,
    header,
    http_client::{
        ClientCertificate, Family, HostAddress, HttpVersion, Options, StatusSet, Tls, basic_authorization,
        bearer_authorization,
    },
    method, refuse_same,
};

use crate::{
    args::{InputFormat, LimitArgs, OutputArgs, ShowArgs, address, size},
    bridge, environment,
    failure::Failure,
    launch::{dry_run, launch, on_event},
    secrets::TokenCommand,
    signals::Handling,
    terminal::Terminal,
};

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct FetchArgs {
    /// URLs; `{1..500}` and `{eu,us}` stand for each of their values, `{name}` for a column of --from
    #[arg(value_name = "URL")]
    urls: Vec<String>,
    /// Read rows from this file, or from standard input (`-`)
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// How --from is written [default: by its extension, else lines]
    #[arg(long, value_name = "FORMAT")]
    input_format: Option<InputFormat>,
    /// The row's name, as a template: `{region}-{id}` [default: r0, r1, ...]
    #[arg(long, value_name = "TEMPLATE")]
    id: Option<String>,
    /// Show what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    request: RequestArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    answer: AnswerArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Outcomes in the order of the input
    #[arg(short, long, help_heading = "Results")]
    keep_order: bool,
    #[command(flatten)]
    show: ShowArgs,
}

#[derive(Args)]
#[command(next_help_heading = "Requests")]
struct RequestArgs {
    /// The method [default: GET, or POST with a body]
    #[arg(short = 'X', long, value_name = "METHOD")]
    method: Option<String>,
    /// A header, `Name: value`; `@FILE` reads one per line
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// A JSON body; `@FILE` reads it
    #[arg(long, value_name = "JSON", conflicts_with = "data")]
    json: Option<String>,
    /// A body; `@FILE` reads it
    #[arg(long, value_name = "TEXT")]
    data: Option<String>,
    /// User name and password, `NAME:PASSWORD`
    #[arg(long, value_name = "USER", conflicts_with_all = ["bearer_env", "token_command"])]
    user: Option<String>,
    /// A bearer token from this environment variable
    #[arg(long, value_name = "VARIABLE", conflicts_with = "token_command")]
    bearer_env: Option<String>,
    /// A bearer token from this shell command, which runs again when the token is refused
    #[arg(long, value_name = "COMMAND")]
    token_command: Option<String>,
    /// User names and passwords from a netrc file [default: $NETRC or ~/.netrc]
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    netrc: Option<String>,
    /// Give each request that is not idempotent an Idempotency-Key, the same on each attempt and after --resume
    #[arg(long)]
    idempotency_key: bool,
    /// Keep cookies and send them back
    #[arg(long)]
    cookies: bool,
}

#[derive(Args)]
#[command(next_help_heading = "Connections")]
struct ConnectionArgs {
    /// Longest time to connect: name lookup, TCP, proxy and TLS
    #[arg(long, value_name = "TIME", default_value = "5s")]
    connect_timeout: Span,
    /// Only HTTP/1.1
    #[arg(long, conflicts_with = "http2")]
    http1: bool,
    /// Only HTTP/2; without TLS by prior knowledge
    #[arg(long)]
    http2: bool,
    /// Trust the certificates in this file (PEM) and no others
    #[arg(long, value_name = "FILE")]
    cacert: Vec<PathBuf>,
    /// Our certificate chain (PEM), with the key unless --cert-key is given
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// The key of --cert (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    cert_key: Option<PathBuf>,
    /// Trust any certificate; for tests only
    #[arg(long)]
    insecure: bool,
    /// Proxy for everything: http, https, socks5 or socks5h URL; empty for none [default: from the environment]
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Hosts and networks that are reached without proxy [default: $NO_PROXY]
    #[arg(long, value_name = "LIST")]
    noproxy: Option<String>,
    /// Where a host is, instead of asking DNS: `HOST:PORT:ADDRESS[,ADDRESS]`, with `*` for any port
    #[arg(long, value_name = "PLACE")]
    resolve: Vec<String>,
    /// Only IPv4
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    ipv4: bool,
    /// Only IPv6
    #[arg(short = '6', long)]
    ipv6: bool,
    /// Connect to this Unix socket, whatever the URL says
    #[arg(long, value_name = "PATH")]
    unix_socket: Option<PathBuf>,
    /// Have the requests sent by the machines of a cluster: `dask://HOST:PORT` or `ray://HOST:PORT`; limits hold for
    /// all of them together
    #[arg(long, value_name = "ADDRESS")]
    on: Option<String>,
}

#[derive(Args)]
#[command(next_help_heading = "Answers")]
struct AnswerArgs {
    /// Statuses that are a success: `200,404`, `2xx` [default: 2xx and 304]
    #[arg(long, value_name = "LIST")]
    expect: Option<StatusSet>,
    /// Most redirects to follow; 0 takes a redirect for the answer
    #[arg(long, value_name = "N", default_value_t = 20)]
    max_redirects: u8,
    /// Largest body, decoded
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = size)]
    max_body: u64,
    /// Give up a body that comes in slower than this per second
    #[arg(long, value_name = "SIZE", value_parser = size)]
    min_throughput: Option<u64>,
    /// Do not ask for compressed bodies
    #[arg(long)]
    no_compression: bool,
    /// How bodies are written
    #[arg(long, value_name = "HOW", default_value = "json")]
    body: Body,
    /// Write the headers of answers as well
    #[arg(long)]
    include_headers: bool,
    /// Keep only what this jq expression makes of a body
    #[arg(long, value_name = "EXPRESSION")]
    select: Option<String>,
    /// Follow pages: `link`, `next=.next_url` or `page=page,until=.items|length==0`
    #[arg(long, value_name = "HOW", conflicts_with = "save")]
    paginate: Option<String>,
    /// Most pages per row
    #[arg(long, value_name = "N", default_value_t = 1000)]
    max_pages: u32,
    /// Save each body to a file of its own: `out/{id}.json`
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "select")]
    save: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Body {
    /// JSON as it was sent; else as text, or as base64
    Json,
    /// As a string
    Text,
    /// As base64
    Base64,
    /// Not at all
    None,
}

/// Runs the command; returns its exit status.
pub fn run(args: FetchArgs) -> Result<u8, Failure> {
    let terminal = Terminal::new(args.show.color);
    args.output.check(args.answer.save.is_some())?;
    args.refuse_own_input()?;
    let defaults = args.defaults()?;
    let input = args.input(defaults)?;
    if args.dry_run {
        return dry_run(input.start()?, &terminal, describe);
    }
    let total = input.total();
    let mut plan = FetchPlan {
        http: args.options()?,
        remote: None,
        select: args.answer.select.as_deref().map(Filter::new).transpose().map_err(Failure::usage)?,
        paginate: args
            .answer
            .paginate
            .as_deref()
            .map(|how| Paginate::parse(how, args.answer.max_pages))
            .transpose()
            .map_err(Failure::usage)?,
        evaluator: Some(crate::evaluate::command()),
        idempotency_keys: args.request.idempotency_key,
        saving: args.answer.save.is_some().then(|| args.output.saving(args.from.clone().into_iter().collect())),
        frame: Frame {
            settings: args.limits.settings(),
            output: args.output.output(Open::default())?,
            outlet: None,
            style: FetchStyle { body: args.answer.body.into(), headers: args.answer.include_headers },
            keep_order: args.keep_order,
            max_failures: args.limits.max_failures,
            canary: args.limits.canary,
            on_event: on_event(&args.show, &terminal),
            rows: Box::new(input.start()?),
        },
    };
    let mut bridge = None;
    if let Some(address) = &args.connection.on {
        let (remote, started) = bridge::start(address, &plan.http)?;
        (plan.remote, bridge) = (Some(remote), Some(started));
    }
    let resumable = args.output.out.is_some();
    let run = |cancel, monitor, gauge| unisono_runner::fetch(plan, cancel, monitor, gauge);
    let report = launch(&args.show, &terminal, total, resumable, Handling::default(), run);
    drop(bridge);
    Ok(report?.exit_code())
}

impl FetchArgs {
    fn input(&self, defaults: Defaults) -> Result<Input<Defaults>, Failure> {
        match &self.from {
            None if self.urls.is_empty() => Err(Failure::usage("nothing to fetch")
                .hint("give URLs, or a file of them with --from FILE (`-` is standard input)")),
            None => {
                let addresses = self.urls.iter().map(|url| address(url)).collect::<Result<Vec<Template>, Failure>>()?;
                if let Some(url) =
                    self.urls.iter().zip(&addresses).find_map(|(url, template)| template.has_fields().then_some(url))
                {
                    return Err(Failure::usage(format!(
                        "`{}` has columns to fill in, but there are no rows",
                        redacted(url)
                    ))
                    .hint("give them with --from FILE"));
                }
                Ok(Input::arguments(
                    addresses
                        .into_iter()
                        .map(|address| Defaults { address: Some(address), ..defaults.clone() })
                        .collect(),
                ))
            }
            Some(_) if self.urls.len() > 1 => {
                Err(Failure::usage("with --from there can be one URL at most, as a template")
                    .hint("put the others into the file"))
            }
            Some(path) => {
                let format = self.input_format.map(Into::into);
                let defaults = Defaults { address: self.urls.first().map(|url| address(url)).transpose()?, ..defaults };
                Ok(Input::file(path, format, b'\n', defaults)?)
            }
        }
    }

    /// What is read must not be what is written.
    fn refuse_own_input(&self) -> Result<(), Failure> {
        let (request, connection) = (&self.request, &self.connection);
        let mut reads: Vec<Named> = Vec::new();
        reads.extend(self.from.iter().map(|path| Named::input("--from", path)));
        let referred = [("--json", &request.json), ("--data", &request.data)].into_iter();
        let referred = referred.filter_map(|(flag, text)| Some((flag, text.as_deref()?)));
        let referred = referred.chain(request.headers.iter().map(|text| ("--header", text.as_str())));
        reads.extend(referred.filter_map(|(flag, text)| Some(Named::new(flag, text.strip_prefix('@')?))));
        reads.extend(connection.cacert.iter().map(|path| Named::new("--cacert", path)));
        let files = [("--cert", &connection.cert), ("--cert-key", &connection.cert_key)].into_iter();
        reads.extend(files.filter_map(|(flag, path)| Some(Named::new(flag, path.as_ref()?))));
        reads.extend(request.netrc.iter().filter(|path| !path.is_empty()).map(|path| Named::new("--netrc", path)));
        let mut writes = self.output.written();
        // What a row names is known only with the row.
        let save = self.answer.save.as_deref().and_then(|text| Template::file_path(text).ok()?.constant());
        writes.extend(save.map(|path| Named::new("--save", path)));
        Ok(refuse_same(&reads, &writes)?)
    }

    fn defaults(&self) -> Result<Defaults, Failure> {
        let mut headers = HeaderMap::new();
        for text in &self.request.headers {
            match text.strip_prefix('@') {
                Some(path) => {
                    let lines = read_text(Path::new(path))?;
                    lines
                        .lines()
                        .filter(|line| !line.trim().is_empty())
                        .try_for_each(|line| add_header(line, &mut headers))?;
                }
                None => add_header(text, &mut headers)?,
            }
        }
        let body = self.body(&mut headers)?;
        if let Some(value) = self.authorization()? {
            headers.insert(AUTHORIZATION, value);
        }
        let template = |text: &Option<String>, parse: fn(&str) -> Result<Template, String>| {
            text.as_deref().map(parse).transpose().map_err(Failure::usage)
        };
        Ok(Defaults {
            address: None,
            id: template(&self.id, Template::text)?,
            save: template(&self.answer.save, Template::file_path)?,
            method: self.request.method.as_deref().map(method).transpose().map_err(Failure::usage)?,
            headers,
            body,
            netrc: self.request.netrc.as_deref().map(environment::netrc).transpose()?.map(Arc::new),
        })
    }

    fn body(&self, headers: &mut HeaderMap) -> Result<Option<Bytes>, Failure> {
        let (text, is_json) = match (&self.request.json, &self.request.data) {
            (Some(json), _) => (json, true),
            (None, Some(data)) => (data, false),
            (None, None) => return Ok(None),
        };
        let bytes = match text.strip_prefix('@') {
            Some(path) => read(Path::new(path))?,
            None => text.clone().into_bytes(),
        };
        if is_json {
            if let Some(why) = unisono_runner::json_error(&bytes) {
                return Err(Failure::usage(format!("--json is not JSON: {why}")));
            }
            headers.entry(http::header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
            return Ok(Some(Bytes::copy_from_slice(unisono_runner::unmarked(&bytes))));
        }
        Ok(Some(bytes.into()))
    }

    fn authorization(&self) -> Result<Option<HeaderValue>, Failure> {
        if let Some(user) = &self.request.user {
            let (name, password) = user
                .split_once(':')
                .ok_or_else(|| Failure::usage("--user needs a name and a password, as NAME:PASSWORD"))?;
            return Ok(Some(basic_authorization(name, &Secret::new(password))));
        }
        let Some(variable) = &self.request.bearer_env else { return Ok(None) };
        let token = environment::variable(variable).filter(|token| !token.is_empty());
        let token = token
            .ok_or_else(|| Failure::usage(format!("--bearer-env: the environment variable {variable} is not set")))?;
        let value = bearer_authorization(token.trim()).ok_or_else(|| {
            Failure::usage(format!("--bearer-env: the value of {variable} has characters that cannot be sent"))
        })?;
        Ok(Some(value))
    }

    fn options(&self) -> Result<Options, Failure> {
        let (connection, answer) = (&self.connection, &self.answer);
        let defaults = Options::default();
        Ok(Options {
            connect_timeout: connection
                .connect_timeout
                .0
                .ok_or_else(|| Failure::usage("--connect-timeout must be a time"))?,
            version: match (connection.http1, connection.http2) {
                (true, _) => HttpVersion::Http1,
                (_, true) => HttpVersion::Http2,
                _ => HttpVersion::Auto,
            },
            tls: self.tls()?,
            proxies: environment::proxies(connection.proxy.as_deref(), connection.noproxy.as_deref())?,
            hosts: connection.resolve.iter().map(|text| host_address(text)).collect::<Result<_, _>>()?,
            family: match (connection.ipv4, connection.ipv6) {
                (true, _) => Family::V4,
                (_, true) => Family::V6,
                _ => Family::Any,
            },
            unix_socket: connection.unix_socket.clone(),
            max_redirects: answer.max_redirects,
            max_body: answer.max_body,
            expect: answer.expect.clone().unwrap_or_default(),
            cookies: self.request.cookies,
            tokens: self.request.token_command.clone().map(|command| Rc::new(TokenCommand(command)) as Rc<_>),
            decompress: !answer.no_compression,
            min_throughput: answer.min_throughput,
            ..defaults
        })
    }

    fn tls(&self) -> Result<Tls, Failure> {
        let connection = &self.connection;
        let identity = match &connection.cert {
            None => None,
            Some(cert) => {
                let chain = read(cert)?;
                let key = read_text(connection.cert_key.as_deref().unwrap_or(cert))?;
                Some(ClientCertificate { chain, key: Secret::new(key) })
            }
        };
        let roots = connection.cacert.iter().map(|path| read(path)).collect::<Result<_, _>>()?;
        Ok(Tls { roots, identity, insecure: connection.insecure })
    }
}

/// What would be sent.
fn describe(call: &FetchCall, object: &mut serde_json::Map<String, serde_json::Value>) {
    object.insert("method".into(), call.request.method.as_str().into());
    object.insert("url".into(), call.request.url.to_string().into());
    object.insert("body_bytes".into(), call.request.body.len().into());
    if let Some(path) = &call.save {
        object.insert("save".into(), path.to_string_lossy().into());
    }
}

fn add_header(line: &str, headers: &mut HeaderMap) -> Result<(), Failure> {
    let (name, value) =
        line.split_once(':').ok_or_else(|| Failure::usage("a header needs a name and a value, as `Name: value`"))?;
    let (name, value) = header(name, value).map_err(Failure::usage)?;
    headers.append(name, value);
    Ok(())
}

fn host_address(text: &str) -> Result<HostAddress, Failure> {
    let parse = || {
        let (host, rest) = text.split_once(':')?;
        let (port, addresses) = rest.split_once(':')?;
        let port = if port == "*" { None } else { Some(port.parse().ok()?) };
        let addresses = addresses
            .split(',')
            .map(|address| address.trim_matches(['[', ']']).parse().ok())
            .collect::<Option<Vec<_>>>()?;
        (!host.is_empty() && !addresses.is_empty()).then(|| HostAddress {
            host: host.to_ascii_lowercase(),
            port,
            addresses,
        })
    };
    parse().ok_or_else(|| {
        Failure::usage(format!("--resolve: `{text}` is not HOST:PORT:ADDRESS (try `api.test:443:127.0.0.1`)"))
    })
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::usage(format!("cannot read `{}`: {error}", path.display())))
}

fn read_text(path: &Path) -> Result<String, Failure> {
    String::from_utf8(read(path)?).map_err(|_| Failure::usage(format!("`{}` is not text", path.display())))
}

impl From<Body> for BodyMode {
    fn from(body: Body) -> Self {
        match body {
            Body::Json => Self::Json,
            Body::Text => Self::Text,
            Body::Base64 => Self::Base64,
            Body::None => Self::None,
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
