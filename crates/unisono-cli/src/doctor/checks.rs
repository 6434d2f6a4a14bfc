//! The looks at ten things, each a [`Finding`].

use std::{
    env, fs,
    net::ToSocketAddrs,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    thread,
    time::{Duration, SystemTime},
};

use rustix::process::{Resource, Rlimit, geteuid, getrlimit};
use unisono_core::{clock, format_duration, format_size};
use unisono_runner::{
    commands::most_commands,
    cores,
    http_client::{Proxies, Proxy, Tls, Trust},
};
use unisono_sys::{cgroup::own_group_and_mount, descriptors::left, system};

use super::finding::Finding;
use crate::{environment, python};

/// All of them, with `/proc`, `/sys` and `/etc` below `root`.
pub fn all(root: &Path) -> Vec<Finding> {
    let groups = Groups::of(root);
    vec![
        descriptors(getrlimit(Resource::Nofile)),
        processes(&groups, getrlimit(Resource::Nproc)),
        memory(&groups),
        processors(&groups),
        names(root),
        system_clock(),
        proxies(),
        certificates(),
        temporary_folder(&env::temp_dir()),
        versions(root),
    ]
}

fn descriptors(limit: Rlimit) -> Finding {
    // A run raises the soft limit to the hard one by itself.
    let most = limit.maximum.unwrap_or(u64::MAX);
    let open = limit.current.unwrap_or(u64::MAX).saturating_sub(left());
    let commands = most_commands(most.saturating_sub(open));
    let connections = most.saturating_sub(SPARE_DESCRIPTORS);
    let finding = Finding::new("descriptors", format!("{} (soft {})", shown(limit.maximum), shown(limit.current)))
        .detail("soft", limit.current)
        .detail("hard", limit.maximum)
        .detail("commands_at_once", commands)
        .limits_to(
            format!("about {connections} connections at once, and {commands} at a time of commands"),
            "ulimit -Hn, LimitNOFILE= of systemd, --ulimit nofile= of docker",
        );
    match most {
        0..LEAST_DESCRIPTORS => finding.fails("no command can be started"),
        _ => finding,
    }
}

fn processes(groups: &Groups, limit: Rlimit) -> Finding {
    // The kernel does not hold root to it (setrlimit(2)).
    let by_user = limit.current.filter(|_| !geteuid().is_root());
    let room = groups.room("pids.max", "pids.current");
    let value = match (room, by_user) {
        (None, None) => "no limit".to_owned(),
        (Some((room, most)), _) => format!("room for {room} of {most} in the control group"),
        (None, Some(most)) => format!("{most} of the user's"),
    };
    let finding = Finding::new("processes", value)
        .detail("pids_max", room.map(|(_, most)| most))
        .detail("pids_room", room.map(|(room, _)| room))
        .detail("of_user", by_user);
    let most = room.map(|(room, _)| room).into_iter().chain(by_user).min();
    let Some(most) = most else { return finding };
    let finding = finding.limits_to(
        format!("{most} processes and threads"),
        "ulimit -u, TasksMax= of systemd, --pids-limit of docker, podPidsLimit of the kubelet",
    );
    match most {
        0..LEAST_PROCESSES => finding.fails("the threads of a run and a command cannot all be started"),
        _ => finding,
    }
}

fn memory(groups: &Groups) -> Finding {
    let Some((room, most)) = groups.room("memory.max", "memory.current") else {
        return Finding::new("memory", "no limit by a control group").detail("max", None::<u64>);
    };
    let value = format!("{} left of {} in the control group", format_size(room), format_size(most));
    let finding = Finding::new("memory", value).detail("max", most).detail("room", room).limits_to(
        format!("{} for bodies under way, and for commands", format_size(room)),
        "MemoryMax= of systemd, --memory of docker, resources.limits.memory of Kubernetes",
    );
    match most {
        // Of what is used, much is the page cache, which makes way.
        0..LEAST_MEMORY => finding.fails("that is less than the program takes"),
        _ => finding,
    }
}

fn processors(groups: &Groups) -> Finding {
    let quota = groups.processors();
    let value = match quota {
        Some(quota) => format!("{} cores, a quota of {quota:.2}", cores()),
        None => format!("{} cores, no quota", cores()),
    };
    let finding = Finding::new("processors", value).detail("cores", cores().get()).detail("quota", quota);
    finding.limits_to(
        format!("{} commands and digests at once, unless --limit says otherwise", cores()),
        "CPUQuota= and AllowedCPUs= of systemd, --cpus of docker, resources.limits.cpu of Kubernetes",
    )
}

fn names(root: &Path) -> Finding {
    let lines = |file: &str, word: &str| -> Vec<String> {
        let text = fs::read_to_string(root.join(file)).unwrap_or_default();
        let rest = |line: &str| line.strip_prefix(word).filter(|rest| rest.starts_with([' ', '\t'])).map(str::to_owned);
        text.lines().filter_map(rest).map(|rest| rest.trim().to_owned()).collect()
    };
    let hosts = lines("etc/nsswitch.conf", "hosts:").join(" ");
    let servers = lines("etc/resolv.conf", "nameserver");
    let begun = clock::now();
    let (answer, answered) = mpsc::channel();
    // The C library's own, as a run asks it; it cannot be interrupted.
    thread::spawn(move || answer.send(("localhost", 0).to_socket_addrs().map(|found| found.count())));
    let found = answered.recv_timeout(LONGEST_LOOKUP);
    let took = clock::since(begun);
    let sources = if hosts.is_empty() { "files dns".to_owned() } else { hosts };
    let asked = if servers.is_empty() { "127.0.0.1 (none is named)".to_owned() } else { servers.join(" ") };
    let value = format!("{sources}; nameserver {asked}; localhost in {}", format_duration(took));
    let finding = Finding::new("names", value)
        .detail("sources", sources.clone())
        .detail("nameservers", servers)
        .detail("localhost_seconds", took.as_secs_f64());
    match found {
        Ok(Ok(_)) if took >= SLOW_LOOKUP => {
            finding.limits_to("few new hosts a second", "a resolver that answers, first in resolv.conf")
        }
        Ok(Ok(_)) => finding,
        Ok(Err(error)) => finding.fails(format!("localhost has no address: {error}")),
        Err(_) => finding.fails(format!("localhost was not resolved in {}", format_duration(LONGEST_LOOKUP))),
    }
}

fn system_clock() -> Finding {
    let synchronised = system::is_clock_synchronised().ok();
    let value = match synchronised {
        Some(true) => "synchronised",
        Some(false) => "not known to be synchronised",
        None => "the kernel does not say whether it is synchronised",
    };
    let finding = Finding::new("clock", value).detail("synchronised", synchronised);
    let since_1970 = clock::wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    match since_1970 {
        // What waits for a `Retry-After` with a date, and what ages certificates, goes by it.
        time if time < START_OF_2026 => finding.fails("it is years behind, so no certificate is valid yet"),
        _ => finding,
    }
}

fn proxies() -> Finding {
    let found = match Proxies::from_environment(environment::variable) {
        Ok(found) => found,
        Err(error) => return Finding::new("proxies", "of no use").fails(error.chain()),
    };
    let [http, https] = [&found.http, &found.https].map(|proxy| proxy.as_ref().map(Proxy::to_string));
    let by = |proxy: &Option<String>| proxy.clone().unwrap_or_else(|| "direct".to_owned());
    let except = ["no_proxy", "NO_PROXY"].into_iter().find_map(environment::variable).filter(|list| !list.is_empty());
    let mut value = format!("http {}, https {}", by(&http), by(&https));
    if let Some(list) = &except {
        value += &format!(", except {list}");
    }
    Finding::new("proxies", value).detail("http", http).detail("https", https).detail("except", except)
}

fn certificates() -> Finding {
    let named: Vec<_> = ["SSL_CERT_FILE", "SSL_CERT_DIR"]
        .into_iter()
        .filter_map(|name| Some((name, environment::variable(name)?)))
        .collect();
    let places: Vec<String> = named.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let (value, why) = match Tls::default().trust() {
        Ok(Trust::BuiltIn(why)) => ("those of the web that are built in".to_owned(), Some(why)),
        Ok(_) => ("those of this system".to_owned(), None),
        Err(error) => ("none".to_owned(), Some(error.to_string())),
    };
    let value = if places.is_empty() { value } else { format!("{value} ({})", places.join(", ")) };
    let mut finding = Finding::new("certificates", value).detail("built_in", why.is_some());
    for (name, value) in named {
        finding = finding.detail(name, value);
    }
    match why {
        Some(why) if !places.is_empty() => finding.fails(format!("what is named is of no use: {why}")),
        Some(_) => finding.limits_to("hosts with certificates of public authorities", "ca-certificates, --cacert"),
        None => finding,
    }
}

fn temporary_folder(folder: &Path) -> Finding {
    let room = rustix::fs::statvfs(folder);
    let (free, inodes) = match room {
        Ok(room) => (room.f_bavail.saturating_mul(room.f_frsize), room.f_favail),
        Err(error) => {
            return Finding::new("temporary", folder.display().to_string())
                .fails(format!("it cannot be used: {error}"));
        }
    };
    let value = format!("{} has {} left", folder.display(), format_size(free));
    let finding = Finding::new("temporary", value)
        .detail("folder", folder.display().to_string())
        .detail("free", free)
        .detail("free_inodes", inodes);
    match rustix::fs::access(folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK) {
        Err(error) => finding.fails(format!("nothing can be made in it: {error}")),
        Ok(()) if free < LEAST_ROOM => finding.fails("there is no room in it"),
        Ok(()) => finding,
    }
}

fn versions(root: &Path) -> Finding {
    let kernel = fs::read_to_string(root.join("proc/sys/kernel/osrelease")).unwrap_or_default().trim().to_owned();
    let (glibc, python) = (system::glibc_version(), python_version());
    let mut value = format!("unisono {}, Linux {kernel}", env!("CARGO_PKG_VERSION"));
    if let Some(glibc) = &glibc {
        value += &format!(", glibc {glibc}");
    }
    if let Some(python) = &python {
        value += &format!(", CPython {python}");
    }
    Finding::new("versions", value)
        .detail("unisono", env!("CARGO_PKG_VERSION"))
        .detail("linux", kernel)
        .detail("glibc", glibc)
        .detail("python", python)
}

/// Of the interpreter that this command was installed for, if it was for one.
fn python_version() -> Option<String> {
    let code = "import unisono, platform; print(platform.python_version())";
    let said = Command::new(python::python().ok()?).args(["-c", code]).output().ok()?;
    let version = String::from_utf8(said.stdout).ok()?;
    (said.status.success()).then(|| version.trim().to_owned())
}

/// The control groups that bind this process, its own one first.
struct Groups(Vec<PathBuf>);

impl Groups {
    fn of(root: &Path) -> Self {
        let Ok((own, mount)) = own_group_and_mount(root) else { return Self(Vec::new()) };
        Self(own.ancestors().take_while(|group| group.starts_with(&mount)).map(Path::to_owned).collect())
    }

    /// What is left of the bound that leaves least, and that bound.
    fn room(&self, bound: &str, used: &str) -> Option<(u64, u64)> {
        let number = |group: &Path, file: &str| fs::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok();
        let rooms = self.0.iter().filter_map(|group| {
            // "max" is no number, and no bound.
            let most = number(group, bound)?;
            Some((most.saturating_sub(number(group, used).unwrap_or(0)), most))
        });
        rooms.min()
    }

    /// The least quota, in cores.
    fn processors(&self) -> Option<f64> {
        let quotas = self.0.iter().filter_map(|group| {
            let text = fs::read_to_string(group.join("cpu.max")).ok()?;
            let (quota, period) = text.trim().split_once(' ')?;
            Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
        });
        quotas.min_by(f64::total_cmp)
    }
}

fn shown(limit: Option<u64>) -> String {
    limit.map_or_else(|| "no limit".to_owned(), |limit| limit.to_string())
}

/// Of standard streams, files, the resolver and the reactor.
const SPARE_DESCRIPTORS: u64 = 16;
/// With fewer `unisono each` cannot start a command, as was tried; `fetch` does with some less.
const LEAST_DESCRIPTORS: u64 = 20;
/// `unisono each` with a results file starts so many processes and threads before the first command, as was tried.
const LEAST_PROCESSES: u64 = 6;
/// No process of ours fits into less.
const LEAST_MEMORY: u64 = 4 << 20;
const LEAST_ROOM: u64 = 1 << 20;
/// As long as `--connect-timeout`, which bounds a look-up in a run.
const LONGEST_LOOKUP: Duration = Duration::from_secs(5);
/// What is in /etc/hosts takes less than a millisecond; so long is a server that was asked and did not answer.
const SLOW_LOOKUP: Duration = Duration::from_millis(500);
/// Before this version was made.
const START_OF_2026: Duration = Duration::from_secs(1_767_225_600);
