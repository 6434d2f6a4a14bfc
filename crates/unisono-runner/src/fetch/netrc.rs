//! Credentials from a netrc file, as curl and ftp(1) read it.

use std::collections::HashMap;

use unisono_core::Secret;

/// User names and passwords by host.
#[derive(Debug, Clone, Default)]
pub struct Netrc {
    hosts: HashMap<String, Login>,
    other: Option<Login>,
}

/// A user name and password.
pub type Login = (String, Secret);

impl Netrc {
    /// Reads the words of a netrc file. What is not understood is passed over, as every reader of these files does.
    ///
    /// ```
    /// let netrc = unisono_runner::Netrc::parse("machine api.test login me password pw # mine\ndefault login x");
    /// assert_eq!(netrc.get("api.test").unwrap().0, "me");
    /// assert_eq!(netrc.get("elsewhere").unwrap().0, "x");
    /// ```
    pub fn parse(text: &str) -> Self {
        let mut netrc = Self::default();
        let mut current: Option<(Option<String>, String, String)> = None;
        let mut words = text.lines().flat_map(words_of);
        while let Some(word) = words.next() {
            match word {
                "machine" => {
                    netrc.add(current.take());
                    current = words.next().map(|host| (Some(host.to_ascii_lowercase()), String::new(), String::new()));
                }
                "default" => {
                    netrc.add(current.take());
                    current = Some((None, String::new(), String::new()));
                }
                "login" | "password" | "account" => {
                    let value = words.next().unwrap_or_default();
                    match (&mut current, word) {
                        (Some((_, login, _)), "login") => *login = value.to_owned(),
                        (Some((_, _, password)), "password") => *password = value.to_owned(),
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        netrc.add(current);
        netrc
    }

    /// The login for this host.
    pub fn get(&self, host: &str) -> Option<&Login> {
        self.hosts.get(host).or(self.other.as_ref())
    }

    fn add(&mut self, entry: Option<(Option<String>, String, String)>) {
        let Some((host, login, password)) = entry else { return };
        let login = (login, Secret::new(password));
        match host {
            // The first entry of a host counts.
            Some(host) => drop(self.hosts.entry(host).or_insert(login)),
            None => drop(self.other.get_or_insert(login)),
        }
    }
}

fn words_of(line: &str) -> impl Iterator<Item = &str> {
    line.split_ascii_whitespace().take_while(|word| !word.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_never_shown() {
        let netrc = Netrc::parse("machine a login b password hunter2");
        assert!(!format!("{netrc:?}").contains("hunter2"));
        assert_eq!(netrc.get("a").unwrap().1.reveal(), "hunter2");
        assert!(netrc.get("b").is_none());
    }
}
