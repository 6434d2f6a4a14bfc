//! Keeping `N` lanes busy with jobs of any lengths.
//!
//! All lanes run the same number of blocks at a time: as many as the lane that is next to come to an end, or to a
//! seam between two stretches of memory. A lane whose job is over takes the next one. The longest jobs go first, so
//! that what is left at the end is little. A lane without a job repeats the first one's input, and its result is
//! thrown away; when fewer lanes have jobs than pay, the rest is left to a narrower kernel.

use std::array;

use crate::arch::BLOCK_BYTES;

/// A job: a state, and the whole blocks it is to be run over.
pub(crate) trait Work {
    /// The state that the blocks are run through, up to date while the job is in no lane.
    fn state(&mut self) -> &mut [u32; 8];
    /// Blocks that are left.
    fn remaining(&self) -> usize;
    /// The next blocks that lie side by side in memory: at least one while any is left.
    fn ready(&self) -> &[u8];
    /// Passes over blocks that have been run, no more than were ready.
    fn advance(&mut self, blocks: usize);
}

/// Which jobs are in the lanes, by their places in the caller's slice, and over how many blocks they run in step.
pub(crate) struct Turn<'a, const N: usize, J> {
    /// One job a lane. A lane that has none of its own shows the first one's again.
    pub(crate) jobs: [&'a J; N],
    pub(crate) blocks: usize,
}

/// Runs the jobs in `queue` (places in `jobs`, each with something to do) until fewer than `fewest` are left, and
/// leaves those in `queue`.
pub(crate) fn drive<const N: usize, J: Work>(
    jobs: &mut [J],
    queue: &mut Vec<usize>,
    fewest: usize,
    mut compress: impl FnMut(&mut [[u32; 8]; N], &[&[u8]; N], &Turn<'_, N, J>),
) {
    if queue.len() < fewest.max(1) {
        return;
    }
    // The longest are last, where they are taken from.
    queue.sort_unstable_by_key(|&job| jobs[job].remaining());
    let mut states = [[0; 8]; N];
    let mut lanes = [0; N];
    let mut busy = 0;
    loop {
        while busy < N
            && let Some(job) = queue.pop()
        {
            states[busy] = *jobs[job].state();
            lanes[busy] = job;
            busy += 1;
        }
        if busy < fewest.max(1) {
            break;
        }
        let blocks = lanes[..busy].iter().map(|&job| jobs[job].ready().len() / BLOCK_BYTES).min().unwrap_or(0);
        let in_lane = array::from_fn(|lane| &jobs[lanes[if lane < busy { lane } else { 0 }]]);
        let inputs = in_lane.map(|job: &J| &job.ready()[..blocks * BLOCK_BYTES]);
        compress(&mut states, &inputs, &Turn { jobs: in_lane, blocks });

        for lane in (0..busy).rev() {
            let job = &mut jobs[lanes[lane]];
            job.advance(blocks);
            if job.remaining() == 0 {
                *job.state() = states[lane];
                busy -= 1;
                lanes[lane] = lanes[busy];
                states[lane] = states[busy];
            }
        }
    }
    for lane in 0..busy {
        *jobs[lanes[lane]].state() = states[lane];
        queue.push(lanes[lane]);
    }
}
