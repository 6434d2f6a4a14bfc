//! Keywords into options: the words are those of the command line.

use std::{
    num::{NonZeroU32, NonZeroU64},
    path::{Path, PathBuf},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    thread,
    time::Duration,
};

use http::{HeaderMap, header::AUTHORIZATION};
use pyo3::{
    exceptions::PyTypeError,
    prelude::*,
    types::{PyDict, PyMapping, PyString},
};
use tokio::sync::oneshot;
use unisono_core::{FOR_EVER, Limits, Overrides, Rate, RetryBudget, RetryPolicy, Secret, Times, parse_size};
use unisono_http::{
    ClientCertificate, ClientOptions, CookieJar, Family, HttpVersion, NoProxy, Proxies, Proxy, RequestCookie,
    RequestOptions, StatusSet, Tls, TokenSource, basic_authorization, bearer_authorization,
};
use unisono_runner::{
    BodyMode, Call, Defaults, Destination, Done, Feed, FetchStyle, Filter, Frame, Mode, Monitor, Netrc, Open, Outlet,
    Paginate, RowOptions, Saving, Settings, Template, header, method,
};

use crate::{
    errors::{self, usage},
    events::EventLog,
    numbers::{self, Whole, shown},
    values::{pairs, path_of, text},
};

/// Keywords as they came; each is taken once, so that what is left over is a mistake.
pub struct Keywords<'py> {
    given: Bound<'py, PyDict>,
}

impl<'py> Keywords<'py> {
    pub fn new(given: &Bound<'py, PyDict>) -> PyResult<Self> {
        Ok(Self { given: given.copy()? })
    }

    pub fn take(&self, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        // Most calls have few keywords, of the many that there are.
        if self.given.is_empty() {
            return Ok(None);
        }
        let value = self.given.get_item(name)?;
        if value.is_some() {
            self.given.del_item(name)?;
        }
        Ok(value.filter(|value| !value.is_none()))
    }

    /// Whether a keyword is given.
    pub fn has(&self, name: &str) -> PyResult<bool> {
        self.given.contains(name)
    }

    pub fn get<T>(&self, name: &str) -> PyResult<Option<T>>
    where
        T: for<'a> FromPyObject<'a, 'py>,
    {
        let py = self.given.py();
        let Some(value) = self.take(name)? else { return Ok(None) };
        value.extract::<T>().map(Some).map_err(|error| usage(py, format!("{name}: {}", error.into())))
    }

    /// A path, as `open` takes it.
    fn path(&self, name: &str) -> PyResult<Option<PathBuf>> {
        let Some(value) = self.take(name)? else { return Ok(None) };
        match path_of(&value) {
            Ok(path) => Ok(Some(path)),
            Err(error) if error.is_instance_of::<PyTypeError>(self.given.py()) => {
                let kind = value.get_type().name()?;
                Err(self.mistake(format!("{name}: expected a path (str, bytes or os.PathLike), not {kind}")))
            }
            Err(error) => Err(error),
        }
    }

    /// A whole number.
    pub fn whole<T: Whole>(&self, name: &str) -> PyResult<Option<T>> {
        self.take(name)?.map(|value| numbers::whole(name, &value)).transpose()
    }

    /// A mistake in a keyword.
    pub fn mistake(&self, why: impl Into<String>) -> PyErr {
        usage(self.given.py(), why)
    }

    pub fn flag(&self, name: &str) -> PyResult<bool> {
        Ok(self.get::<bool>(name)?.unwrap_or(false))
    }

    pub fn parsed<T, E: std::fmt::Display>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> PyResult<Option<T>> {
        let Some(value) = self.take(name)? else { return Ok(None) };
        let text = text(name, &value)?;
        parse(&text).map(Some).map_err(|error| usage(self.given.py(), format!("{name}: {error}")))
    }

    pub fn rate(&self, name: &str) -> PyResult<Option<Rate>> {
        let Some(value) = self.take(name)? else { return Ok(None) };
        let text = rate_text(name, &value)?;
        text.parse().map(Some).map_err(|error| usage(self.given.py(), format!("{name}: {error}")))
    }

    /// Seconds, or text such as `10s`; `none` for no bound. `None` when the keyword is absent.
    pub fn span(&self, name: &str) -> PyResult<Option<Option<Duration>>> {
        let Some(value) = self.take(name)? else { return Ok(None) };
        // These are lengths of steps and no limits, so that `none` means the default.
        let no_limit = (!matches!(name, "base" | "cap" | "connect_timeout")).then_some("\"none\"");
        numbers::span(name, &value, no_limit).map(Some)
    }

    pub fn size(&self, name: &str) -> PyResult<Option<u64>> {
        let Some(value) = self.take(name)? else { return Ok(None) };
        let Ok(text) = value.extract::<String>() else { return numbers::whole(name, &value).map(Some) };
        parse_size(&text).map(Some).map_err(|error| usage(self.given.py(), format!("{name}: {error}")))
    }

    pub fn settings(&self) -> PyResult<Settings> {
        let mut limits = Limits::new(self.whole("limit")?, self.whole("per_host")?);
        limits.rate = self.rate("rate")?;
        limits.per_key_rate = self.rate("per_host_rate")?;
        let times = Times::default();
        let timeout = self.span("timeout")?.unwrap_or(times.timeout);
        let times = Times { timeout, ..self.times(times)? };
        let retry = RetryPolicy::default();
        let retry = RetryPolicy {
            repeats: self.whole("retries")?.unwrap_or(retry.repeats),
            max_wait: self.span("max_wait")?.map_or(retry.max_wait, |wait| wait.unwrap_or(FOR_EVER)),
            budget: self.budget(retry.budget)?,
            ..retry
        };
        let host_away = self.span("host_away")?.map(|away| away.unwrap_or(FOR_EVER));
        Ok(Settings { limits, times, retry: retry.waiting(host_away), ordered_by_key: false })
    }

    /// How long what a key stands for is waited for when it is away, and whether the items of a key go one after the
    /// other; `needs` is the keyword that says what the key is.
    pub fn keyed(&self, retry: RetryPolicy, has_keys: bool, needs: &str) -> PyResult<(RetryPolicy, bool)> {
        let host_away = self.span("host_away")?.map(|away| away.unwrap_or(FOR_EVER));
        let ordered = self.flag("ordered_by_key")?;
        if !has_keys && (host_away.is_some() || ordered) {
            return Err(self.mistake(format!("host_away and ordered_by_key need {needs}")));
        }
        Ok((RetryPolicy { host_away: host_away.or(retry.host_away).filter(|away| !away.is_zero()), ..retry }, ordered))
    }

    /// The repeats that all items of a key have on credit together; `None` for no such bound.
    fn budget(&self, default: Option<RetryBudget>) -> PyResult<Option<RetryBudget>> {
        let Some(value) = self.take("retry_budget")? else { return Ok(default) };
        if value.extract::<String>().is_ok_and(|text| text == "none") {
            return Ok(None);
        }
        let reserve = numbers::whole("retry_budget", &value)?;
        Ok(Some(RetryBudget { reserve, ..RetryBudget::default() }))
    }

    /// The times that every kind of work has.
    pub fn times(&self, defaults: Times) -> PyResult<Times> {
        Ok(Times {
            deadline: self.span("deadline")?.unwrap_or(defaults.deadline),
            stop_after: self.span("stop_after")?.flatten(),
            grace: self.span("grace")?.map_or(defaults.grace, |grace| grace.unwrap_or(FOR_EVER)),
            ..defaults
        })
    }

    /// Everything about connections, in a form that can be taken to another thread.
    pub fn http(&self) -> PyResult<HttpKeywords> {
        let py = self.given.py();
        let options = ClientOptions::default();
        Ok(HttpKeywords {
            connect_timeout: self.span("connect_timeout")?.flatten().unwrap_or(options.connect_timeout),
            version: self.version()?,
            tls: self.tls()?,
            proxies: self.proxies()?,
            family: match self.whole::<u8>("ip")? {
                None => Family::Any,
                Some(4) => Family::V4,
                Some(6) => Family::V6,
                Some(other) => return Err(usage(py, format!("ip: {other} is neither 4 nor 6"))),
            },
            unix_socket: self.path("unix_socket")?,
            max_redirects: self.whole("max_redirects")?.unwrap_or(options.max_redirects),
            max_body: self.size("max_body")?.unwrap_or(options.max_body),
            expect: self.statuses("expect")?.unwrap_or(options.expect),
            cookies: self.cookie_jar()?,
            decompress: self.get("decompress")?.unwrap_or(true),
            min_throughput: self.size("min_throughput")?,
            token: self.get::<Py<PyAny>>("token")?.map(Arc::new),
        })
    }

    /// Statuses, as a number, as text such as `2xx,404`, or several of either.
    fn statuses(&self, name: &str) -> PyResult<Option<StatusSet>> {
        let Some(value) = self.take(name)? else { return Ok(None) };
        let one = |value: &Bound<'py, PyAny>| match value.extract::<u16>() {
            Ok(status) => Ok(status.to_string()),
            Err(_) => text(name, value),
        };
        let text = match value.is_instance_of::<PyString>() || value.extract::<u16>().is_ok() {
            true => one(&value)?,
            false => {
                let wrong = |_| {
                    let given = shown(&value);
                    self.mistake(format!(
                        "{name} must be a status, text such as \"2xx,404\", or several of them, not {given}"
                    ))
                };
                let several = value.try_iter().map_err(wrong)?.map(|value| one(&value?));
                several.collect::<PyResult<Vec<_>>>()?.join(",")
            }
        };
        text.parse().map(Some).map_err(|error| self.mistake(format!("{name}: {error}")))
    }

    /// Cookies by their names.
    fn cookies(&self, value: &Bound<'py, PyAny>) -> PyResult<Vec<RequestCookie>> {
        let cookie = |(name, value): (String, String)| {
            RequestCookie::new(&name, &value).map_err(|error| self.mistake(format!("cookies: {error} ({name:?})")))
        };
        pairs(Some(value))?.into_iter().map(cookie).collect()
    }

    /// Whether cookies are kept, and those to begin with.
    fn cookie_jar(&self) -> PyResult<Option<KeptCookies>> {
        let Some(value) = self.take("cookies")? else { return Ok(None) };
        if let Ok(is_kept) = value.extract::<bool>() {
            return Ok(is_kept.then(KeptCookies::default));
        }
        let wrong = || self.mistake(format!("cookies must be a mapping or True, not {}", shown(&value)));
        value.cast::<PyMapping>().map_err(|_| wrong())?;
        let to_begin_with = self.cookies(&value)?.into_iter().map(RequestCookie::to_begin_with).collect();
        Ok(Some(KeptCookies { jar: CookieJar::default(), to_begin_with }))
    }

    /// What a single request has of its own of what holds for all.
    pub fn row_options(&self) -> PyResult<RowOptions> {
        let time = |name| PyResult::Ok(self.span(name)?.map(|time| time.unwrap_or(FOR_EVER)));
        let auth = match self.take("auth")? {
            None => None,
            Some(auth) if auth.is_callable() => {
                return Err(self.mistake(
                    "auth: a callable is for a client and its calls; a request takes a user name and password",
                ));
            }
            Some(auth) => Some(login(&auth)?),
        };
        Ok(RowOptions {
            request: RequestOptions {
                overrides: Overrides {
                    timeout: time("timeout")?,
                    deadline: time("deadline")?,
                    repeats: self.whole("retries")?,
                },
                expect: self.statuses("expect")?,
                follow_redirects: self.get("follow_redirects")?,
                cookies: self.take("cookies")?.map_or(Ok(Vec::new()), |value| self.cookies(&value))?,
            },
            auth,
            idempotency_key: match self.take("idempotency_key")? {
                None => None,
                Some(key) => match key.extract::<bool>() {
                    // Of the system's, since a child of fork would have the same numbers as its parent.
                    Ok(true) => Some(key.py().import("secrets")?.call_method1("token_hex", (16,))?.extract()?),
                    Ok(false) => None,
                    Err(_) => Some(text("idempotency_key", &key)?),
                },
            },
        })
    }

    /// As the command has it: each of the two is the only version that is spoken, over TLS or not.
    fn version(&self) -> PyResult<HttpVersion> {
        match (self.get::<bool>("http1")?, self.get::<bool>("http2")?) {
            (None, None) => Ok(HttpVersion::Auto),
            (Some(true), Some(true)) | (Some(false), Some(false)) => Err(usage(
                self.given.py(),
                "http1 and http2 each say which version alone is spoken; give one of them, or neither for what a server prefers",
            )),
            (Some(true), _) | (_, Some(false)) => Ok(HttpVersion::Http1),
            (Some(false), _) | (_, Some(true)) => Ok(HttpVersion::Http2),
        }
    }

    fn tls(&self) -> PyResult<Tls> {
        let py = self.given.py();
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|error| usage(py, format!("cannot read `{}`: {error}", path.display())))
        };
        let roots = self.path("cacert")?.iter().map(read).collect::<PyResult<_>>()?;
        let (cert, key) = (self.path("cert")?, self.path("cert_key")?);
        let identity = match cert {
            None => None,
            Some(cert) => {
                let key = String::from_utf8(read(key.as_ref().unwrap_or(&cert))?)
                    .map_err(|_| usage(py, "cert_key: the file is not text"))?;
                Some(ClientCertificate { chain: read(&cert)?, key: Secret::new(key) })
            }
        };
        Ok(Tls { roots, identity, insecure: !self.get::<bool>("verify")?.unwrap_or(true) })
    }

    fn proxies(&self) -> PyResult<Proxies> {
        let bad = |error: unisono_http::Error| usage(self.given.py(), format!("proxy: {}", error.chain()));
        let mut proxies = match self.get::<String>("proxy")?.as_deref() {
            Some("") => Proxies::default(),
            Some(proxy) => Proxies::all(Proxy::parse(proxy).map_err(|error| bad(error.into()))?, NoProxy::default()),
            None => Proxies::from_environment(|name| std::env::var(name).ok()).map_err(bad)?,
        };
        if let Some(list) = self.get::<String>("no_proxy")? {
            proxies.exceptions = NoProxy::parse(&list);
        }
        Ok(proxies)
    }

    /// What holds for every request.
    pub fn defaults(&self, http: &HttpKeywords) -> PyResult<Defaults> {
        let py = self.given.py();
        let mut headers = HeaderMap::new();
        let given = self.take("headers")?;
        for (name, value) in pairs(given.as_ref())? {
            let (name, value) = header(&name, &value).map_err(|why| usage(py, why))?;
            headers.append(name, value);
        }
        if let Some(auth) = self.take("auth")? {
            let (name, password) = login(&auth)?;
            headers.insert(AUTHORIZATION, basic_authorization(&name, &password));
        }
        if let Some(token) = self.get::<String>("bearer")? {
            let value = bearer_authorization(&token)
                .ok_or_else(|| usage(py, "bearer: the token has characters that cannot be sent"))?;
            headers.insert(AUTHORIZATION, value);
        }
        let netrc = match self.path("netrc")? {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(&path)
                    .map_err(|error| usage(py, format!("cannot read `{}`: {error}", path.display())))?;
                let netrc = Netrc::parse(&text)
                    .map_err(|why| usage(py, format!("netrc: cannot read `{}`: {why}", path.display())))?;
                Some(Arc::new(netrc))
            }
        };
        Ok(Defaults {
            address: self.parsed("template", Template::address)?,
            id: self.parsed("id", Template::text)?,
            save: self.parsed("save", Template::file_path)?,
            method: self.parsed("method", method)?,
            headers,
            cookies: http.cookies.as_ref().map_or_else(Vec::new, |kept| kept.to_begin_with.clone()),
            body: None,
            netrc,
        })
    }

    /// Where outcomes go.
    ///
    /// `saves` says that items write to files of their own, which `overwrite` then concerns as well.
    pub fn results(&self, saves: bool) -> PyResult<ResultsOptions> {
        let py = self.given.py();
        let out = self.path("out")?;
        let adopt = self.flag("adopt")?;
        let rebind = self.flag("rebind")?;
        let resumes = self.flag("resume")? || adopt || rebind;
        let mode = match (self.flag("retry_ambiguous")?, self.flag("retry_failed")?, resumes) {
            (true, _, _) => Mode::RetryFailed { ambiguous: true },
            (_, true, _) => Mode::RetryFailed { ambiguous: false },
            (_, _, true) => Mode::Resume,
            _ => Mode::Fresh,
        };
        let overwrite = self.flag("overwrite")?;
        if out.is_none() && (mode != Mode::Fresh || (overwrite && !saves)) {
            return Err(usage(py, "resume, retry_failed, retry_ambiguous, adopt, rebind and overwrite need out="));
        }
        if overwrite && mode != Mode::Fresh && !saves {
            return Err(usage(py, "overwrite begins anew, and resume goes on: not both"));
        }
        // With what goes on, it concerns the files of save= alone.
        let replace = overwrite && mode == Mode::Fresh;
        // What is known by its content has that put in its place.
        let identity = if rebind { unisono_runner::Identity::Id } else { unisono_runner::Identity::Row };
        Ok(ResultsOptions {
            open: out.map(|path| (path, Open { mode, overwrite: replace, adopt, identity, ..Open::default() })),
            saving: saves.then(|| Saving { overwrite, protected: Vec::new(), spool: std::env::temp_dir() }),
            canary: self.whole("canary")?,
            keep_order: self.flag("keep_order")?,
            max_failures: self.whole("max_failures")?,
        })
    }

    /// What is kept of answers.
    pub fn answers(&self) -> PyResult<Answers> {
        let py = self.given.py();
        // A mistake in an expression is the caller's, and known before anything is sent.
        let wrong = |why: String| usage(py, why);
        let (how, most) = (self.get::<String>("paginate")?, self.whole("max_pages")?.unwrap_or(1000));
        Ok(Answers {
            idempotency_keys: self.flag("idempotency_key")?,
            style: FetchStyle {
                body: match self.get::<String>("body")?.as_deref() {
                    None | Some("json") => BodyMode::Json,
                    Some("text") => BodyMode::Text,
                    Some("base64") => BodyMode::Base64,
                    Some("none") => BodyMode::None,
                    Some(other) => {
                        return Err(usage(py, format!("body: `{other}` is none of json, text, base64, none")));
                    }
                },
                headers: self.flag("include_headers")?,
            },
            select: self.get::<String>("select")?.as_deref().map(Filter::new).transpose().map_err(wrong)?,
            paginate: how.as_deref().map(|how| Paginate::parse(how, most)).transpose().map_err(wrong)?,
        })
    }

    /// Refuses what was not taken.
    pub fn finish(self) -> PyResult<()> {
        match self.given.keys().iter().next() {
            None => Ok(()),
            Some(name) => Err(pyo3::exceptions::PyTypeError::new_err(format!("unexpected keyword argument '{name}'"))),
        }
    }

    /// Refuses what was not taken by what a program calls itself, which is `function`.
    pub fn finish_call(self, function: &str) -> PyResult<()> {
        match self.given.keys().iter().next() {
            None => Ok(()),
            Some(name) => Err(errors::unexpected(function, &name)),
        }
    }
}

/// Where outcomes go.
pub struct ResultsOptions {
    open: Option<(PathBuf, Open)>,
    keep_order: bool,
    max_failures: Option<u64>,
    canary: Option<NonZeroU64>,
    saving: Option<Saving>,
}

impl ResultsOptions {
    /// What holds for files that items write to, where they do.
    pub fn take_saving(&mut self) -> Option<Saving> {
        self.saving.take()
    }

    /// Whether they are kept in a file.
    pub fn are_kept(&self) -> bool {
        self.open.is_some()
    }

    /// The file that they are kept in.
    pub fn path(&self) -> Option<&Path> {
        self.open.as_ref().map(|(path, _)| &**path)
    }

    /// The frame of a run. `adapt` is how its kind of work wants its file.
    pub fn frame<C: Call>(
        self,
        rows: Box<dyn Feed<C>>,
        settings: Settings,
        style: <C::Done as Done>::Style,
        outlet: Option<Outlet<C::Done>>,
        log: &Arc<EventLog>,
        adapt: impl FnOnce(&mut Open),
    ) -> Frame<C> {
        let output = match self.open {
            Some((path, mut open)) => {
                adapt(&mut open);
                Destination::File { path, open }
            }
            None => Destination::Nothing,
        };
        let on_event = Some(log.on_event());
        let (keep_order, max_failures, canary) = (self.keep_order, self.max_failures, self.canary);
        Frame { rows, settings, output, outlet, style, keep_order, max_failures, canary, on_event }
    }
}

/// What is kept of answers.
pub struct Answers {
    pub idempotency_keys: bool,
    pub style: FetchStyle,
    pub select: Option<Filter>,
    pub paginate: Option<Paginate>,
}

impl Answers {
    /// The keyword that takes something out of bodies, if there is one.
    pub fn unsaved(&self) -> Option<&'static str> {
        let (select, paginate) = (self.select.as_ref(), self.paginate.as_ref());
        select.map(|_| "select").or(paginate.map(|_| "paginate"))
    }
}

/// [`ClientOptions`] without what belongs to a thread.
pub struct HttpKeywords {
    connect_timeout: Duration,
    version: HttpVersion,
    tls: Tls,
    proxies: Proxies,
    family: Family,
    unix_socket: Option<PathBuf>,
    max_redirects: u8,
    max_body: u64,
    expect: StatusSet,
    cookies: Option<KeptCookies>,
    decompress: bool,
    min_throughput: Option<u64>,
    token: Option<Arc<Py<PyAny>>>,
}

/// Cookies that are kept and sent back.
#[derive(Default)]
struct KeptCookies {
    jar: CookieJar,
    to_begin_with: Vec<RequestCookie>,
}

impl HttpKeywords {
    /// Where cookies are kept, where they are.
    pub fn cookie_jar(&self) -> Option<CookieJar> {
        self.cookies.as_ref().map(|kept| kept.jar.clone())
    }

    /// The statuses that are a success.
    pub fn expect(&self) -> &StatusSet {
        &self.expect
    }

    /// The callable that returns tokens: the same object, for what the garbage collector asks about it.
    pub fn token(&self) -> Option<Arc<Py<PyAny>>> {
        self.token.clone()
    }

    pub fn options(self) -> ClientOptions {
        ClientOptions {
            connect_timeout: self.connect_timeout,
            version: self.version,
            tls: self.tls,
            proxies: self.proxies,
            family: self.family,
            unix_socket: self.unix_socket,
            max_redirects: self.max_redirects,
            max_body: self.max_body,
            expect: self.expect,
            cookies: self.cookies.map(|kept| kept.jar),
            decompress: self.decompress,
            min_throughput: self.min_throughput,
            tokens: self.token.map(|token| Rc::new(TokenCallable(token)) as Rc<dyn TokenSource>),
            ..ClientOptions::default()
        }
    }
}

/// A user name and password.
fn login(value: &Bound<'_, PyAny>) -> PyResult<(String, Secret)> {
    let wrong = |_| usage(value.py(), "auth must be a user name and a password, as auth=(\"ann\", password)");
    let (name, password) = value.extract::<(String, String)>().map_err(wrong)?;
    Ok((name, Secret::new(password)))
}

/// A callable of Python that returns a token. It runs on a thread of its own, since it may take its time.
struct TokenCallable(Arc<Py<PyAny>>);

impl TokenSource for TokenCallable {
    fn token(&self) -> Pin<Box<dyn Future<Output = Result<Secret, String>>>> {
        let callable = self.0.clone();
        let (sender, receiver) = oneshot::channel();
        let run = move || {
            let answer = Python::try_attach(|py| call(py, &callable))
                .unwrap_or_else(|| Err("the interpreter is ending".to_owned()));
            let _ = sender.send(answer);
        };
        let thread = thread::Builder::new().name("unisono-token".into()).spawn(run);
        Box::pin(async move {
            thread.map_err(|error| format!("no thread for the token callable: {error}"))?;
            receiver.await.unwrap_or_else(|_| Err("the token callable ended without an answer".to_owned()))
        })
    }
}

/// Calls it, and runs what it answers when that is a coroutine. What it raises is shown by its type alone: the message
/// may hold what must not be shown.
fn call(py: Python<'_>, callable: &Py<PyAny>) -> Result<Secret, String> {
    let answer = || -> PyResult<String> {
        let mut value = callable.bind(py).call0()?;
        if py.import("inspect")?.call_method1("iscoroutine", (&value,))?.is_truthy()? {
            value = py.import("asyncio")?.call_method1("run", (value,))?;
        }
        value.extract()
    };
    answer().map(Secret::new).map_err(|error| {
        let name = error.get_type(py).name().map_or_else(|_| "an exception".to_owned(), |name| name.to_string());
        format!("the token callable raised {name}")
    })
}

/// Changes the limits of a batch or client; they hold from then on.
pub fn set_limits(monitor: &Monitor, new: &NewLimits) {
    let mut limits = monitor.limits().unwrap_or_default();
    new.change(&mut limits);
    monitor.set_limits(limits);
}

/// Limits that a caller sets; `None` leaves one as it is.
pub struct NewLimits {
    limit: Option<NonZeroU32>,
    per_key: Option<NonZeroU32>,
    /// `Some(None)` takes it away.
    rate: Option<Option<Rate>>,
    per_key_rate: Option<Option<Rate>>,
}

impl NewLimits {
    /// What was given, by these names: those of the limit and the rate per key.
    pub fn new(
        limit: Option<&Bound<'_, PyAny>>,
        (per_key_name, per_key): (&'static str, Option<&Bound<'_, PyAny>>),
        rate: Option<&Bound<'_, PyAny>>,
        (per_key_rate_name, per_key_rate): (&'static str, Option<&Bound<'_, PyAny>>),
    ) -> PyResult<Self> {
        let number =
            |name, value: Option<&Bound<'_, PyAny>>| value.map(|value| numbers::whole(name, value)).transpose();
        let pace = |name, value: Option<&Bound<'_, PyAny>>| value.map(|value| new_rate(name, value)).transpose();
        Ok(Self {
            limit: number("limit", limit)?,
            per_key: number(per_key_name, per_key)?,
            rate: pace("rate", rate)?,
            per_key_rate: pace(per_key_rate_name, per_key_rate)?,
        })
    }

    /// Whether it says more than the rate.
    pub fn is_more_than_rate(&self) -> bool {
        self.limit.is_some() || self.per_key.is_some() || self.per_key_rate.is_some()
    }

    pub fn limit(&self) -> Option<NonZeroU32> {
        self.limit
    }

    pub fn change(&self, limits: &mut Limits) {
        if let Some(limit) = self.limit {
            let same = limits.per_key == limits.limit;
            limits.limit = limit;
            if same {
                limits.per_key = limit;
            }
        }
        limits.per_key = self.per_key.unwrap_or(limits.per_key);
        limits.rate = self.rate.unwrap_or(limits.rate);
        limits.per_key_rate = self.per_key_rate.unwrap_or(limits.per_key_rate);
    }
}

/// The text of a rate; a number alone does not say in which time.
fn rate_text(name: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    let is_number = value.extract::<f64>().is_ok();
    text(name, value).map_err(|error| match is_number {
        true => {
            let shown = shown(value);
            usage(
                value.py(),
                format!(
                    "{name} must be text that says in which time, as \"{shown}/s\" for {shown} in a second, not {shown}"
                ),
            )
        }
        false => error,
    })
}

/// A rate, or `none`.
fn new_rate(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<Rate>> {
    match rate_text(name, value)?.as_str() {
        "none" => Ok(None),
        text => text.parse().map(Some).map_err(|error| usage(value.py(), format!("{name}: {error}"))),
    }
}
