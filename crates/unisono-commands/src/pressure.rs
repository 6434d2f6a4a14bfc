//! Waiting while the machine is busy: its load, and the memory that is left. Linux' own numbers, from `/proc`.

use std::{fs, time::Duration};

/// What has to hold before a command is started.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// The load of the last minute is below this.
    pub most_load: Option<f64>,
    /// So many bytes of memory are available.
    pub least_memory: Option<u64>,
}

impl Pressure {
    /// Why it can never hold on this machine, if so.
    pub fn impossible(&self) -> Option<String> {
        if self.most_load.is_some_and(|most| most.is_nan() || most <= 0.0) {
            return Some("a load is never below 0, so nothing would ever start (load)".to_owned());
        }
        let (least, total) = (self.least_memory?, memory("MemTotal:")?);
        (least > total).then(|| {
            let shown = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
            format!(
                "this machine has {} of memory, so {} are never available and nothing would ever start (min-memory)",
                shown(total),
                shown(least)
            )
        })
    }

    /// Waits until it holds. What cannot be read holds.
    pub async fn ease(&self) {
        while !self.holds() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn holds(&self) -> bool {
        let load_holds = self.most_load.is_none_or(|most| load().is_none_or(|load| load < most));
        load_holds && self.least_memory.is_none_or(|least| available().is_none_or(|available| available >= least))
    }
}

/// See proc_loadavg(5).
fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

fn available() -> Option<u64> {
    memory("MemAvailable:")
}

/// See proc_meminfo(5); the file counts in KiB.
fn memory(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
}

/// The kernel computes the load every five seconds.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_below_what_no_machine_reaches_and_above_nothing() {
        assert!(Pressure { most_load: Some(1e9), least_memory: Some(1) }.holds());
        assert!(!Pressure { most_load: Some(-1.0), least_memory: None }.holds());
        assert!(!Pressure { most_load: None, least_memory: Some(u64::MAX) }.holds());
    }

    #[test]
    fn what_no_machine_reaches_is_known_before_it_is_waited_for() {
        let pressure = |most_load, least_memory| Pressure { most_load, least_memory };
        assert!(pressure(None, Some(u64::MAX)).impossible().unwrap().contains("min-memory"));
        for load in [0.0, -1.0, f64::NAN] {
            assert!(pressure(Some(load), None).impossible().is_some());
        }
        assert_eq!(pressure(Some(0.1), Some(1 << 20)).impossible(), None);
    }
}
