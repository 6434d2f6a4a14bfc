//! What the words of `unisono fetch` mean together: rows, requests, and how to speak to servers.

use std::{path::Path, rc::Rc, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use unisono_core::{Secret, redacted};
use unisono_runner::{
    Defaults, Input, Named, Template, header,
    http_client::{
        ClientCertificate, ClientOptions, CookieJar, Family, HostAddress, HttpVersion, Tls, basic_authorization,
        bearer_authorization,
    },
    method, refuse_same,
};

use super::FetchArgs;
use crate::{args::address, environment, failure::Failure, secrets::TokenCommand};

impl FetchArgs {
    pub fn input(&self, defaults: Defaults) -> Result<Input<Defaults>, Failure> {
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
    pub fn refuse_own_input(&self) -> Result<(), Failure> {
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

    pub fn defaults(&self) -> Result<Defaults, Failure> {
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
            cookies: Vec::new(),
            body: body.map(Into::into),
            netrc: self.request.netrc.as_deref().map(environment::netrc).transpose()?.map(Arc::new),
        })
    }

    pub fn body(&self, headers: &mut HeaderMap) -> Result<Option<Bytes>, Failure> {
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

    pub fn authorization(&self) -> Result<Option<HeaderValue>, Failure> {
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

    pub fn options(&self) -> Result<ClientOptions, Failure> {
        let (connection, answer) = (&self.connection, &self.answer);
        let defaults = ClientOptions::default();
        Ok(ClientOptions {
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
            cookies: self.request.cookies.then(CookieJar::default),
            tokens: self.request.token_command.clone().map(|command| Rc::new(TokenCommand(command)) as Rc<_>),
            decompress: !answer.no_compression,
            min_throughput: answer.min_throughput,
            ..defaults
        })
    }

    pub fn tls(&self) -> Result<Tls, Failure> {
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
