//! Which proxy a connection goes through, and which hosts are excepted.
//!
//! The rules for the usual environment variables are curl's: `NAME_proxy` by scheme, `all_proxy` for the rest,
//! `no_proxy` for exceptions; `http_proxy` counts in lower case only, since a CGI server sets `HTTP_PROXY` from a
//! request header. The faces read the environment and pass it in; this crate does not.

use std::net::IpAddr;

use ipnet::IpNet;
use unisono_core::ErrorKind;
use unisono_net::Proxy;

use crate::Error;

/// Which proxy serves which address.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    /// For plain http.
    pub http: Option<Proxy>,
    /// For https.
    pub https: Option<Proxy>,
    /// The hosts that are reached directly.
    pub exceptions: NoProxy,
}

impl Proxies {
    /// The proxies that the environment asks for; `get` returns a variable's value.
    ///
    /// # Errors
    /// When a variable's value is not the address of a proxy.
    pub fn from_environment(get: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let get = |names: &[&str]| {
            names
                .iter()
                .find_map(|name| get(name).filter(|value| !value.is_empty()).map(|value| (name.to_string(), value)))
        };
        let parse = |found: Option<(String, String)>| {
            found
                .map(|(name, value)| {
                    Proxy::parse(&value).map_err(|error| {
                        Error::new(ErrorKind::Input, format!("the environment variable {name} is of no use"))
                            .with_source(error)
                    })
                })
                .transpose()
        };
        let all = parse(get(&["all_proxy", "ALL_PROXY"]))?;
        Ok(Self {
            http: parse(get(&["http_proxy"]))?.or_else(|| all.clone()),
            https: parse(get(&["https_proxy", "HTTPS_PROXY"]))?.or(all),
            exceptions: get(&["no_proxy", "NO_PROXY"]).map(|(_, value)| NoProxy::parse(&value)).unwrap_or_default(),
        })
    }

    /// This proxy for everything but the exceptions.
    pub fn all(proxy: Proxy, exceptions: NoProxy) -> Self {
        Self { http: Some(proxy.clone()), https: Some(proxy), exceptions }
    }

    pub(crate) fn get(&self, https: bool, host: &str, port: u16) -> Option<&Proxy> {
        let proxy = if https { self.https.as_ref() } else { self.http.as_ref() };
        proxy.filter(|_| !self.exceptions.contains(host, port))
    }
}

/// Hosts that are reached directly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NoProxy(pub(crate) Vec<Exception>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Exception {
    All,
    Network(IpNet),
    /// This name and those below it, on this port or any.
    Name(String, Option<u16>),
}

impl NoProxy {
    /// Reads a list of names, addresses and networks (`10.0.0.0/8`), parted by commas or spaces; `*` is every host.
    /// A word that is none of them is taken for a name.
    pub fn parse(text: &str) -> Self {
        Self(text.split([',', ' ']).filter(|word| !word.is_empty()).map(exception).collect())
    }

    /// Whether this host is reached directly.
    pub fn contains(&self, host: &str, port: u16) -> bool {
        let address: Option<IpAddr> = host.parse().ok();
        self.0.iter().any(|exception| match exception {
            Exception::All => true,
            Exception::Network(network) => address.is_some_and(|address| network.contains(&address)),
            Exception::Name(name, only) => {
                only.is_none_or(|only| only == port)
                    && (host == name || host.strip_suffix(name.as_str()).is_some_and(|head| head.ends_with('.')))
            }
        })
    }
}

fn exception(word: &str) -> Exception {
    if word == "*" {
        return Exception::All;
    }
    let bare = word.trim_start_matches('[').trim_end_matches(']');
    if let Some(network) = bare.parse().ok().or_else(|| bare.parse::<IpAddr>().ok().map(IpNet::from)) {
        return Exception::Network(network);
    }
    let word = word.trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase();
    match word.rsplit_once(':').and_then(|(name, port)| Some((name, port.parse().ok()?))) {
        Some((name, port)) => Exception::Name(name.to_owned(), Some(port)),
        None => Exception::Name(word, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_names_addresses_and_networks() {
        let list = NoProxy::parse("example.com, .internal:8080 10.0.0.0/8,[::1] fd00::/8");
        for (host, port, direct) in [
            ("example.com", 443, true),
            ("api.example.com", 443, true),
            ("notexample.com", 443, false),
            ("db.internal", 8080, true),
            ("db.internal", 80, false),
            ("10.1.2.3", 80, true),
            ("11.1.2.3", 80, false),
            ("::1", 80, true),
            ("fd12::1", 80, true),
            ("fe80::1", 80, false),
        ] {
            assert_eq!(list.contains(host, port), direct, "{host}:{port}");
        }
        assert!(NoProxy::parse("*").contains("anything", 1));
        assert!(!NoProxy::parse("").contains("anything", 1));
    }

    #[test]
    fn the_environment_is_read_as_curl_reads_it() {
        let set = |pairs: &'static [(&str, &str)]| {
            Proxies::from_environment(move |name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string()))
        };
        let proxies = set(&[
            ("HTTP_PROXY", "http://evil:1"),
            ("https_proxy", "http://me:pw@p:3128"),
            ("ALL_PROXY", "socks5h://s"),
            ("NO_PROXY", "direct"),
        ])
        .unwrap();
        assert_eq!(proxies.get(false, "a", 80).unwrap().to_string(), "s:1080");
        assert_eq!(proxies.get(true, "a", 443).unwrap().to_string(), "p:3128");
        assert!(proxies.get(true, "direct", 443).is_none());
        assert!(!format!("{proxies:?}").contains("pw"));
        let error = set(&[("https_proxy", "gopher://x")]).unwrap_err();
        assert!(
            error
                .chain()
                .starts_with("the environment variable https_proxy is of no use: `gopher://x` is not a kind of proxy")
        );
    }
}
