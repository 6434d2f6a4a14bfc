//! Threads of a pool that are all busy while jobs wait for one.

use std::collections::BTreeMap;

use super::finding::{Certainty, Finding, Kind, Line};
use crate::tasks::{Pool, PoolKind, Snapshot};

/// Pools without a free thread, of which jobs wait.
pub fn exhausted(snapshot: &Snapshot) -> Vec<Finding> {
    let is_full = |pool: &&Pool| {
        pool.waiting > 0
            && pool.idle == 0
            && !pool.busy.is_empty()
            && pool.most.is_none_or(|most| pool.busy.len() >= most)
    };
    snapshot.pools.iter().filter(is_full).map(|pool| finding(snapshot, pool)).collect()
}

fn finding(snapshot: &Snapshot, pool: &Pool) -> Finding {
    let whose = match pool.kind {
        PoolKind::Executor => "threads of an executor",
        PoolKind::Anyio => "worker threads of anyio",
    };
    let waiting = if pool.waiting == 1 { "1 job waits".into() } else { format!("{} jobs wait", pool.waiting) };
    let most = pool.most.unwrap_or(pool.busy.len());
    let headline = format!("{} of {most} {whose} are busy, {waiting} for one", pool.busy.len());
    let mut by_line: BTreeMap<Option<usize>, (usize, usize)> = BTreeMap::new();
    for busy in &pool.busy {
        let entry = by_line.entry(snapshot.own_site(&snapshot.threads[busy.thread].stack)).or_insert((0, busy.thread));
        entry.0 += 1;
    }
    let mut by_line: Vec<_> = by_line.into_iter().collect();
    by_line.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    let lines = by_line.into_iter().map(|(site, (count, thread))| Line {
        site,
        words: match count {
            1 => format!("thread {} is busy here", snapshot.thread_words(thread)),
            count => format!("{count} threads are busy here"),
        },
    });
    Finding { kind: Kind::Exhausted, certainty: Certainty::Fact, headline, lines: lines.collect(), tasks: Vec::new() }
}
