//! A set of statuses, as users write it: `200,404` or `2xx,304`.

use std::{fmt, str::FromStr};

use http::StatusCode;

/// Which statuses count as a success.
///
/// ```
/// use http::StatusCode;
/// let set: unisono_http::StatusSet = "2xx,404".parse().unwrap();
/// assert!(set.contains(StatusCode::CREATED) && set.contains(StatusCode::NOT_FOUND));
/// assert!(!set.contains(StatusCode::FOUND));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusSet(Vec<(u16, u16)>);

impl StatusSet {
    /// Whether this status is one of them.
    pub fn contains(&self, status: StatusCode) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&status.as_u16()))
    }

    /// The same, and these.
    pub fn and(&self, others: impl IntoIterator<Item = StatusCode>) -> Self {
        let others = others.into_iter().map(|status| (status.as_u16(), status.as_u16()));
        Self(self.0.iter().copied().chain(others).collect())
    }

    /// Its ranges, first and last of each.
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.0
    }

    /// These ranges, first and last of each.
    pub fn from_ranges(ranges: Vec<(u16, u16)>) -> Self {
        Self(ranges)
    }
}

impl Default for StatusSet {
    fn default() -> Self {
        Self(vec![(200, 299), (304, 304)])
    }
}

impl FromStr for StatusSet {
    type Err = BadStatus;

    fn from_str(text: &str) -> Result<Self, BadStatus> {
        text.split(',')
            .map(|part| range(part.trim()).ok_or_else(|| BadStatus(part.trim().to_owned())))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// A word that names no status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadStatus(String);

impl fmt::Display for BadStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a status (try `200,404`, `2xx` or `200-299`)", self.0)
    }
}

impl std::error::Error for BadStatus {}

fn range(word: &str) -> Option<(u16, u16)> {
    let status = |text: &str| text.parse().ok().filter(|status| (100..=999).contains(status));
    if let Some(class) = word.strip_suffix("xx") {
        let class: u16 = class.parse().ok().filter(|class| (1..=9).contains(class))?;
        return Some((class * 100, class * 100 + 99));
    }
    match word.split_once('-') {
        Some((first, last)) => Some((status(first)?, status(last)?)).filter(|(first, last)| first <= last),
        None => status(word).map(|one| (one, one)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_status_is_named() {
        for word in ["", "20", "2x", "0xx", "ok", "300-200", "1000"] {
            let error = format!("200,{word}").parse::<StatusSet>().unwrap_err();
            assert!(error.to_string().starts_with(&format!("`{word}` ")), "{error}");
        }
    }

    #[test]
    fn a_range_includes_its_ends() {
        let set: StatusSet = "200-202, 404".parse().unwrap();
        let holds = [199, 200, 202, 203, 404].map(|status| set.contains(StatusCode::from_u16(status).unwrap()));
        assert_eq!(holds, [false, true, true, false, true]);
    }
}
