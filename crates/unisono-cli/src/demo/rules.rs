//! What a server of tests answers: rules, of which the first that fits a request decides, and the account of what was
//! asked.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use unisono_core::{Rate, clock};

use super::talk::Asked;

/// What is answered to requests of one kind.
#[derive(Debug)]
pub struct Rule {
    /// `*` for any.
    method: String,
    /// A whole address, or a path at any host; `*` stands for anything. Without `?`, parameters do not matter.
    url: String,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub content: Vec<u8>,
    pub fault: Option<Fault>,
    /// How long the answer takes.
    pub delay: Duration,
    /// Beyond it, a request is refused with a time to come back.
    rate: Option<Quota>,
    /// For how many requests it still is.
    times: Option<u64>,
}

/// What happens in place of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection is reset.
    Reset,
    /// It is closed in the middle of the body.
    Cut,
    /// Nothing comes.
    Silence,
}

/// A rate, and when the next request is within it.
#[derive(Debug)]
struct Quota {
    rate: Rate,
    next: Instant,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Ruling {
    /// The rule of this number answers.
    Rule(usize),
    /// It is refused by the quota of its rule, and may come back after so long.
    Refused(Duration),
    /// There is no rule for it.
    Unexpected,
}

/// All rules, and all requests in the order in which they came.
#[derive(Debug, Default)]
pub struct Account {
    rules: Vec<Rule>,
    requests: Vec<Value>,
}

impl Rule {
    /// A rule as a line of JSON has it; text stands for bytes, a character each.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(value: &Value) -> Result<Self, String> {
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let pairs = value["headers"].as_array().map(Vec::as_slice).unwrap_or_default();
        let pair = |pair: &Value| Some((pair[0].as_str()?.to_owned(), pair[1].as_str()?.to_owned()));
        let fault = match value["error"].as_str() {
            None => None,
            Some("reset") => Some(Fault::Reset),
            Some("cut") => Some(Fault::Cut),
            Some("silence") => Some(Fault::Silence),
            Some(other) => return Err(format!("error is \"reset\", \"cut\" or \"silence\", not \"{other}\"")),
        };
        let rate = match value["rate"].as_str() {
            None => None,
            Some(rate) => Some(rate.parse::<Rate>().map_err(|error| format!("rate: {error}"))?),
        };
        Ok(Self {
            method: text("method"),
            url: text("url"),
            status: value["status"].as_u64().and_then(|status| status.try_into().ok()).unwrap_or(200),
            headers: pairs.iter().filter_map(pair).collect(),
            content: bytes_of(&text("content")),
            fault,
            delay: Duration::try_from_secs_f64(value["delay"].as_f64().unwrap_or(0.0)).unwrap_or_default(),
            rate: rate.map(|rate| Quota { rate, next: clock::now() }),
            times: value["times"].as_u64(),
        })
    }

    fn fits(&self, method: &str, url: &str) -> bool {
        if self.times == Some(0) || !(self.method == "*" || self.method == method) {
            return false;
        }
        let url = if self.url.starts_with('/') { path_of(url) } else { url };
        matches(&self.url, url)
            || !self.url.contains('?') && url.split_once('?').is_some_and(|(before, _)| matches(&self.url, before))
    }
}

impl Quota {
    /// Whether one more is within the rate now; if not, how long that takes.
    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let interval = self.rate.interval();
        let saved = interval * (self.rate.burst.get() - 1);
        let early = self.next.saturating_duration_since(now);
        if early > saved {
            return Err(early - saved);
        }
        self.next = self.next.max(now) + interval;
        Ok(())
    }
}

impl Account {
    /// Adds a rule behind the others; returns its number.
    pub fn add(&mut self, rule: Rule) -> usize {
        self.rules.push(rule);
        self.rules.len() - 1
    }

    /// Notes a request that came at this moment, and says what becomes of it.
    pub fn ask(&mut self, asked: &Asked, now: Instant) -> Ruling {
        let url = url_of(asked);
        let fitting = self.rules.iter_mut().enumerate().find(|(_, rule)| rule.fits(&asked.method, &url));
        let number = fitting.as_ref().map(|(number, _)| *number);
        let ruling = match fitting {
            None => Ruling::Unexpected,
            Some((number, rule)) => match rule.rate.as_mut().map_or(Ok(()), |quota| quota.take(now)) {
                Err(wait) => Ruling::Refused(wait),
                Ok(()) => {
                    // What a quota refuses does not count.
                    rule.times = rule.times.map(|times| times - 1);
                    Ruling::Rule(number)
                }
            },
        };
        self.requests.push(json!({
            "method": asked.method,
            "url": url,
            "headers": asked.headers,
            "content": text_of(&asked.body),
            "time": clock::wall().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            "rule": number,
        }));
        ruling
    }

    pub fn rule(&self, number: usize) -> &Rule {
        &self.rules[number]
    }

    /// The requests from this number on.
    pub fn requests(&self, from: usize) -> &[Value] {
        self.requests.get(from..).unwrap_or_default()
    }
}

/// The whole address that was asked for.
pub fn url_of(asked: &Asked) -> String {
    if asked.path.contains("://") {
        return asked.path.clone();
    }
    format!("http://{}{}", asked.header("host").unwrap_or_default(), asked.path)
}

fn path_of(url: &str) -> &str {
    let behind = url.split_once("://").map_or(url, |(_, behind)| behind);
    behind.find('/').map_or("", |at| &behind[at..])
}

/// Whether a text is what a pattern says, in which `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, others)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts = others.split('*').peekable();
    while let Some(part) = parts.next() {
        // The last stands at the end, the others as early as they can.
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

fn bytes_of(text: &str) -> Vec<u8> {
    text.chars().filter_map(|character| u8::try_from(character).ok()).collect()
}

fn text_of(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, path: &str) -> Asked {
        let headers = vec![("Host".to_owned(), "h:1".to_owned())];
        Asked { method: method.to_owned(), path: path.to_owned(), headers, ..Asked::default() }
    }

    fn account(rules: &[Value]) -> Account {
        let mut account = Account::default();
        for rule in rules {
            account.add(Rule::of(rule).unwrap());
        }
        account
    }

    #[test]
    fn the_first_rule_that_fits_answers_as_often_as_it_says() {
        let mut account = account(&[
            json!({"method": "GET", "url": "/users/*", "times": 1}),
            json!({"method": "*", "url": "http://h:1/users/7"}),
        ]);
        let ask = |account: &mut Account, method, path| account.ask(&asked(method, path), clock::now());
        assert_eq!(ask(&mut account, "GET", "/users/7?full=1"), Ruling::Rule(0));
        assert_eq!(ask(&mut account, "GET", "/users/7?full=1"), Ruling::Rule(1));
        assert_eq!(ask(&mut account, "POST", "/users/7"), Ruling::Rule(1));
        assert_eq!(ask(&mut account, "GET", "/users/8"), Ruling::Unexpected);
        let rules: Vec<Option<u64>> = account.requests(0).iter().map(|one| one["rule"].as_u64()).collect();
        assert_eq!(rules, [Some(0), Some(1), Some(1), None]);
        assert_eq!(account.requests(3)[0]["url"], "http://h:1/users/8");
    }

    #[test]
    fn a_pattern_with_parameters_means_these() {
        let mut account = account(&[json!({"method": "GET", "url": "/find?q=*"})]);
        let mut ask = |path| account.ask(&asked("GET", path), clock::now());
        assert_eq!([ask("/find?q=a"), ask("/find")], [Ruling::Rule(0), Ruling::Unexpected]);
    }

    #[test]
    fn a_star_stands_for_anything_and_a_pattern_for_the_whole() {
        for (pattern, text, is_so) in [
            ("/a/*/c", "/a/b/c", true),
            ("/a/*/c", "/a/b/c/d", false),
            ("*c*", "abcd", true),
            ("a*a", "a", false),
            ("*", "", true),
            ("a*b*c", "a-b-b-c", true),
            ("/a", "/ab", false),
        ] {
            assert_eq!(matches(pattern, text), is_so, "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_beyond_the_rate_is_refused_until_it_is_within() {
        let mut account = account(&[json!({"method": "GET", "url": "/x", "rate": "2/s burst 2", "times": 3})]);
        let (begun, half) = (clock::now(), Duration::from_millis(500));
        let mut ask = |now| account.ask(&asked("GET", "/x"), now);
        assert_eq!([ask(begun), ask(begun)], [Ruling::Rule(0), Ruling::Rule(0)]);
        assert_eq!(ask(begun), Ruling::Refused(half));
        // What was refused has not counted.
        assert_eq!([ask(begun + half), ask(begun + half)], [Ruling::Rule(0), Ruling::Unexpected]);
    }

    #[test]
    fn a_rule_that_cannot_be_is_told() {
        let why = |value| Rule::of(&value).unwrap_err();
        assert_eq!(why(json!({"error": "slow"})), r#"error is "reset", "cut" or "silence", not "slow""#);
        assert!(why(json!({"rate": "fast"})).starts_with("rate: "));
    }

    #[test]
    fn bytes_come_and_go_as_they_are() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(bytes_of(&text_of(&bytes)), bytes);
    }
}
