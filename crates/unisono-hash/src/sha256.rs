//! SHA-256 (FIPS 180-4) of many streams: the state of one, and the work that one piece of it brings.
//!
//! A [`Stream`] is what is kept between pieces: eight words, the length so far, and the bytes of a block that is not
//! full yet. A [`Job`] is one piece cut into whole blocks: the block that the carried bytes begin, the blocks that
//! lie in the caller's memory and are never copied, and after the last piece the one or two blocks of padding. All
//! of them run in the lanes, so a small file does not end in a slow block of its own.
//!
//! Which kernel runs how many jobs is decided by [`Kernels::run`]; how they share its lanes, by [`crate::schedule`].

use crate::arch::{Avx2, Avx512, BLOCK_BYTES, CompressSha256, ShaNi};
use crate::kernel::Kernel;
use crate::schedule::{Work, drive};

/// Everything that is kept of a stream between two pieces.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    state: [u32; 8],
    /// Bytes so far. The padding holds their number in bits modulo 2^64, so a message has at most 2^61 - 1 bytes.
    length: u64,
    /// The first `length % 64` bytes are those that wait for their block to be full.
    carried: [u8; BLOCK_BYTES],
}

impl Stream {
    pub(crate) fn new() -> Self {
        Stream { state: INITIAL_STATE, length: 0, carried: [0; BLOCK_BYTES] }
    }

    /// Takes a piece: what makes whole blocks becomes a job, what does not is carried, or padded if it is the last.
    pub(crate) fn job<'a>(&mut self, data: &'a [u8], last: bool) -> Job<'a> {
        let carried = (self.length % BLOCK_BYTES as u64) as usize;
        self.length = self.length.wrapping_add(data.len() as u64);
        let (joined, data) = data.split_at(if carried == 0 { 0 } else { data.len().min(BLOCK_BYTES - carried) });
        let filled = carried + joined.len();
        self.carried[carried..filled].copy_from_slice(joined);
        let head_blocks = filled / BLOCK_BYTES;
        let head = self.carried;

        let (body, rest) = data.split_at(data.len() - data.len() % BLOCK_BYTES);
        // Either the carried block is still not full and nothing is left of the data, or it was used up.
        self.carried[..rest.len()].copy_from_slice(rest);
        let (tail, tail_blocks) = if last { self.padding() } else { ([0; 2 * BLOCK_BYTES], 0) };
        Job { state: self.state, head, head_blocks, body, tail, tail_blocks, done: 0 }
    }

    /// Takes back the state of a job that was run.
    pub(crate) fn finish(&mut self, job: &Job<'_>) {
        self.state = job.state;
    }

    /// The digest, once the job of the last piece is finished.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut digest = [0; 32];
        for (bytes, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(self.state) {
            *bytes = word.to_be_bytes();
        }
        digest
    }

    /// The carried bytes, a one bit, zeros, and the length in bits as 64 (FIPS 180-4, section 5.1.1).
    fn padding(&self) -> ([u8; 2 * BLOCK_BYTES], usize) {
        let carried = (self.length % BLOCK_BYTES as u64) as usize;
        let blocks = if carried + 1 + size_of::<u64>() <= BLOCK_BYTES { 1 } else { 2 };
        let mut tail = [0; 2 * BLOCK_BYTES];
        tail[..carried].copy_from_slice(&self.carried[..carried]);
        tail[carried] = 0x80;
        tail[blocks * BLOCK_BYTES - size_of::<u64>()..blocks * BLOCK_BYTES]
            .copy_from_slice(&self.length.wrapping_mul(8).to_be_bytes());
        (tail, blocks)
    }
}

/// The whole blocks of one piece.
pub(crate) struct Job<'a> {
    state: [u32; 8],
    /// The block that was carried, if the piece has filled it.
    head: [u8; BLOCK_BYTES],
    head_blocks: usize,
    body: &'a [u8],
    /// The padding, if this is the last piece.
    tail: [u8; 2 * BLOCK_BYTES],
    tail_blocks: usize,
    /// Blocks that have been run.
    done: usize,
}

impl Work for Job<'_> {
    fn state(&mut self) -> &mut [u32; 8] {
        &mut self.state
    }

    fn remaining(&self) -> usize {
        self.head_blocks + self.body.len() / BLOCK_BYTES + self.tail_blocks - self.done
    }

    fn ready(&self) -> &[u8] {
        let Some(in_body) = self.done.checked_sub(self.head_blocks) else { return &self.head };
        match (in_body * BLOCK_BYTES).checked_sub(self.body.len()) {
            Some(in_tail) => &self.tail[in_tail..self.tail_blocks * BLOCK_BYTES],
            None => &self.body[in_body * BLOCK_BYTES..],
        }
    }

    fn advance(&mut self, blocks: usize) {
        self.done += blocks;
    }
}

/// The kernels that one [`Kernel`] stands for: the widest one, and those that take over when too few jobs are left.
#[derive(Debug)]
pub(crate) struct Kernels {
    avx512: Option<Avx512>,
    avx2: Option<Avx2>,
    sha_ni: Option<ShaNi>,
}

impl Kernels {
    pub(crate) fn new(kernel: Kernel) -> Self {
        let none = Kernels { avx512: None, avx2: None, sha_ni: None };
        match kernel {
            Kernel::Avx512 => Kernels { avx512: Avx512::detect(), sha_ni: ShaNi::detect(), ..none },
            Kernel::Avx2 => Kernels { avx2: Avx2::detect(), ..none },
            Kernel::ShaNi => Kernels { sha_ni: ShaNi::detect(), ..none },
            Kernel::Portable => none,
        }
    }

    /// Runs all jobs to their ends. `queue` is scratch space.
    pub(crate) fn run(&self, jobs: &mut [Job<'_>], queue: &mut Vec<usize>) {
        queue.clear();
        queue.extend((0..jobs.len()).filter(|&job| jobs[job].remaining() > 0));
        if let Some(kernel) = self.avx512 {
            let fewest = if self.sha_ni.is_some() { FEWEST_OF_16_WITH_SHA_NI } else { FEWEST_OF_16 };
            drive::<16, _>(jobs, queue, fewest, |states, inputs, _| kernel.compress(states, inputs));
        }
        if let Some(kernel) = self.avx2 {
            drive::<8, _>(jobs, queue, FEWEST_OF_8, |states, inputs, _| kernel.compress(states, inputs));
        }
        if let Some(kernel) = self.sha_ni {
            drive::<4, _>(jobs, queue, 3, |states, inputs, _| kernel.compress(states, inputs));
            drive::<2, _>(jobs, queue, 2, |states, inputs, _| kernel.compress(states, inputs));
            drive::<1, _>(jobs, queue, 1, |states, inputs, _| kernel.compress(states, inputs));
        } else {
            drive::<1, _>(jobs, queue, 1, |states, inputs, _| compress_portably(&mut states[0], inputs[0]));
        }
    }
}

/// The `sha2` crate's compression, which has code for the instructions of several architectures.
fn compress_portably(state: &mut [u32; 8], blocks: &[u8]) {
    sha2::block_api::compress256(state, blocks.as_chunks().0);
}

/// So many jobs are faster in sixteen lanes than in turns of four with the SHA instructions: on Zen 5, lanes give
/// 0.33 GB/s each, a turn of four 3.3 GB/s, and nine jobs the same both ways.
const FEWEST_OF_16_WITH_SHA_NI: usize = 9;

/// The same against one job after the other by the `sha2` crate without SHA instructions, which gives 0.48 GB/s.
const FEWEST_OF_16: usize = 2;

/// The same for eight lanes, which give 0.22 GB/s each.
const FEWEST_OF_8: usize = 3;

/// The first 32 bits of the fractional parts of the square roots of the first eight primes (FIPS 180-4, section
/// 5.3.3).
pub(crate) const INITIAL_STATE: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_in_the_padding_does_not_end_at_32_bits() {
        // 2^32 + 3 bytes are 2^35 + 24 bits: a counter of 32 bits would say 24, for bytes as well as for bits.
        let stream = Stream { length: (1 << 32) + 3, ..Stream::new() };
        let (tail, blocks) = stream.padding();
        assert_eq!(blocks, 1);
        assert_eq!(tail[..4], [0, 0, 0, 0x80]);
        assert_eq!(tail[56..64], [0, 0, 0, 8, 0, 0, 0, 24]);
    }

    #[test]
    fn the_padding_takes_a_second_block_when_the_length_does_not_fit() {
        let blocks = |carried| Stream { length: carried, ..Stream::new() }.padding().1;
        assert_eq!((blocks(0), blocks(55), blocks(56), blocks(63)), (1, 1, 2, 2));
    }

    #[test]
    fn every_kernel_gives_the_same_states_with_any_number_of_its_lanes_in_use() {
        let data: Vec<u8> = (0..40 * 640_usize).map(|index| (index * index / 7) as u8).collect();
        let portable = Kernels::new(Kernel::Portable);
        for count in 1..=40 {
            let run = |drive: &dyn Fn(&mut [Job<'_>], &mut Vec<usize>)| -> Vec<[u32; 8]> {
                let mut jobs: Vec<_> = (1..=count)
                    .map(|job| Stream::new().job(&data[job * 600..][..job * 37 % 640], job % 3 > 0))
                    .collect();
                let mut queue = (0..count).filter(|&job| jobs[job].remaining() > 0).collect();
                drive(&mut jobs, &mut queue);
                assert!(jobs.iter().all(|job| job.remaining() == 0));
                jobs.iter().map(|job| job.state).collect()
            };
            let expected = run(&|jobs, queue| portable.run(jobs, queue));
            if let Some(kernel) = Avx512::detect() {
                assert_eq!(
                    expected,
                    run(&|jobs, queue| drive(jobs, queue, 1, |s, i: &[_; 16], _| kernel.compress(s, i)))
                );
            }
            if let Some(kernel) = Avx2::detect() {
                assert_eq!(
                    expected,
                    run(&|jobs, queue| drive(jobs, queue, 1, |s, i: &[_; 8], _| kernel.compress(s, i)))
                );
            }
            if let Some(kernel) = ShaNi::detect() {
                assert_eq!(
                    expected,
                    run(&|jobs, queue| drive(jobs, queue, 1, |s, i: &[_; 4], _| kernel.compress(s, i)))
                );
            }
        }
    }
}
