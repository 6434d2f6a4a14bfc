//! What a pool tells of its workers: deaths, failed starts, replacements, tasks past their time, lost zygotes.
//!
//! Below the importance that is kept nothing is made, so that it costs nothing where it is off. What a caller has asked
//! for (a cancelled task, a pool that is closed) is no news.

use std::{sync::Arc, time::Duration};

use super::{
    news::{Importance, PoolNews, TaskNews},
    state::{Core, Pool},
};
use crate::{
    task::{Death, Task, held},
    worker::Worker,
};

impl Pool {
    /// From now on news of this importance and above are kept; `None`: none at all.
    pub fn keep_news(&self, least: Option<Importance>) {
        held(&self.core).news.least = least;
    }

    /// What has happened since the last call.
    pub fn news(&self) -> Vec<PoolNews> {
        held(&self.core).news.take()
    }

    /// A worker ends, since it has had as many tasks as it is given.
    pub(super) fn tell_replaced(&self, core: &mut Core, number: usize, tasks: u64) {
        self.tell(core, Importance::Usual, |core| {
            let worker = core.workers.get(&number)?;
            let noun = if tasks == 1 { "task" } else { "tasks" };
            let text = format!("{} has had its {tasks} {noun}, and ends", named(worker));
            Some(PoolNews { pid: worker.pid(), ..PoolNews::of(text) })
        });
    }

    /// A worker has ended that was not let go; with what it ran, and whether that is tried again.
    pub(super) fn tell_death(&self, core: &mut Core, worker: &Worker, death: Death, ran: Option<(&Arc<Task>, bool)>) {
        // Workers whose zygote was lost are told of once, and only what they ran concerns each.
        if worker.is_doomed() && !worker.is_torn() || death == Death::Unknown && ran.is_none() {
            return;
        }
        self.tell(core, Importance::Warning, |_| {
            let end = if worker.is_torn() {
                "has written over the memory that it shares with the pool, and was killed".to_owned()
            } else {
                death.to_string()
            };
            let worker_ended = format!("{} {end}", named(worker));
            let text = match ran {
                Some((task, is_again)) => {
                    format!("{worker_ended} while it ran {}, which {}", described(task), becomes(task, is_again))
                }
                None => format!("{worker_ended} while it ran no task; another one starts when it is needed"),
            };
            let task = ran.map(|(task, _)| TaskNews::of(task));
            Some(PoolNews { pid: worker.pid(), death: Some(death), task, ..PoolNews::of(text) })
        });
    }

    /// A task has run for too long, and its worker is killed for it.
    pub(super) fn tell_timeout(
        &self,
        core: &mut Core,
        pid: Option<i32>,
        task: &Arc<Task>,
        after: Duration,
        again: bool,
    ) {
        self.tell(core, Importance::Warning, |_| {
            let worker = pid.map_or_else(|| "its worker".to_owned(), |pid| format!("worker {pid}"));
            let text = format!(
                "{} has run for longer than {} s, for which {worker} is killed; the task {}",
                described(task),
                after.as_secs_f64(),
                becomes(task, again)
            );
            Some(PoolNews { pid, task: Some(TaskNews::of(task)), ..PoolNews::of(text) })
        });
    }

    /// A worker has been starting for all the time that a task has.
    pub(super) fn tell_not_begun(
        &self,
        core: &mut Core,
        pid: Option<i32>,
        task: &Arc<Task>,
        after: Duration,
        again: bool,
    ) {
        self.tell(core, Importance::Warning, |_| {
            let worker = pid.map_or_else(|| "a worker".to_owned(), |pid| format!("worker {pid}"));
            let text = format!(
                "{} has waited for {} s, all its time, before {worker}, which is still starting; the task {}",
                described(task),
                after.as_secs_f64(),
                becomes(task, again)
            );
            Some(PoolNews { pid, task: Some(TaskNews::of(task)), ..PoolNews::of(text) })
        });
    }

    /// The process that makes the workers has ended, and all of its workers with it; told once for each such process.
    pub(super) fn tell_zygote_lost(&self, core: &mut Core, number: usize) {
        let Some(zygote) = core.workers.get(&number).and_then(|worker| worker.starter.clone()) else { return };
        // One that has never come as far is a start that failed, and is told of as that.
        if !zygote.has_served() || std::ptr::eq(core.lost_zygote.as_ptr(), Arc::as_ptr(&zygote)) {
            return;
        }
        core.lost_zygote = Arc::downgrade(&zygote);
        self.tell(core, Importance::Warning, |_| {
            let next = if self.zygote.is_fork() { "there is no other" } else { "another one starts when it is needed" };
            let death = zygote.has_ended();
            let end = if death == Death::Unknown { "has ended".to_owned() } else { death.to_string() };
            let text = format!("the process that makes the workers {end}, and its workers end with it; {next}");
            Some(PoolNews { death: Some(death), ..PoolNews::of(text) })
        });
    }

    /// A start has failed, and what that means: there will be another, or none.
    pub(super) fn tell_start(&self, core: &mut Core, text: String) {
        self.tell(core, Importance::Warning, |_| Some(PoolNews::of(text)));
    }

    /// Puts something down, if it is kept.
    fn tell(&self, core: &mut Core, importance: Importance, make: impl FnOnce(&Core) -> Option<PoolNews>) {
        if !core.news.keeps(importance) {
            return;
        }
        let Some(news) = make(core) else { return };
        core.news.add(PoolNews { importance, ..news });
        self.wake_server(core);
    }
}

fn named(worker: &Worker) -> String {
    worker.pid().map_or_else(|| "a worker".to_owned(), |pid| format!("worker {pid}"))
}

fn described(task: &Task) -> String {
    let (number, name) = (task.number + 1, &task.function.name);
    if name.is_empty() { format!("task {number}") } else { format!("task {number} ({name})") }
}

fn becomes(task: &Task, is_again: bool) -> String {
    let (attempts, deaths) = {
        let inner = held(&task.inner);
        (inner.attempts, inner.deaths)
    };
    if is_again {
        format!("is tried again: attempt {} of {}", attempts + 1, u64::from(task.terms.retries) + 1)
    } else if attempts <= task.terms.retries && deaths > 1 {
        format!("fails, since it has killed {deaths} workers")
    } else {
        "fails".to_owned()
    }
}
