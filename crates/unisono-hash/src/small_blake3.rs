//! BLAKE3 of many small files at once, each of them whole.
//!
//! The `blake3` crate fills its vectors with the chunks of one input (1 KiB each), so a file of 4 KiB leaves twelve
//! of sixteen lanes empty. Here chunks of different files share the lanes, and then the parents of different trees.
//!
//! A tree is built by levels: neighbours are joined in pairs, and a node without a neighbour moves up as it is. That
//! gives the specification's tree (section 2.4: the left subtree is the largest power of two that leaves something
//! for the right), because after `k` levels every node but the last stands for exactly `2^k` chunks.
//!
//! Large files and files that come in pieces are the crate's business; see [`crate::Lanes`].

use crate::arch::{BLOCK_BYTES, Blake3Settings, CompressBlake3};
use crate::schedule::{Turn, Work, drive};
use crate::sha256;

/// Hashes whole files together.
pub(crate) fn digests<const N: usize>(
    kernel: impl CompressBlake3<N>,
    files: &[&[u8]],
    queue: &mut Vec<usize>,
) -> Vec<[u8; 32]> {
    let mut chunks: Vec<Chunk<'_>> = files.iter().flat_map(|file| Chunk::all(file)).collect();
    queue.clear();
    queue.extend(0..chunks.len());
    drive::<N, _>(&mut chunks, queue, 1, |chaining_values, inputs, turn| {
        kernel.compress(chaining_values, inputs, &chunk_settings(turn));
    });

    let mut nodes: Vec<[u8; 32]> = chunks.iter().map(|chunk| to_bytes(&chunk.chaining_value)).collect();
    let mut trees = Vec::with_capacity(files.len());
    let mut first = 0;
    for file in files {
        trees.push(Tree { first, nodes: chunk_count(file) });
        first += chunk_count(file);
    }
    let mut pairs = Vec::new();
    while trees.iter().any(|tree| tree.nodes > 1) {
        pairs.clear();
        pairs.extend(trees.iter().flat_map(Tree::pairs));
        join(kernel, &mut nodes, &pairs);
        for tree in &mut trees {
            tree.move_up(&mut nodes);
        }
    }
    trees.iter().map(|tree| nodes[tree.first]).collect()
}

/// How many chunks a file has: an empty one has one, which is empty.
fn chunk_count(file: &[u8]) -> usize {
    file.len().div_ceil(CHUNK_BYTES).max(1)
}

/// One chunk of a file, and how much of it has been run.
struct Chunk<'a> {
    chaining_value: [u32; 8],
    /// Its number in its file.
    counter: u64,
    /// Flags of its last block besides [`CHUNK_END`].
    end_flags: u32,
    full_blocks: &'a [u8],
    /// The last block if it is not full, or if the chunk is empty; padded with zeros.
    partial: [u8; BLOCK_BYTES],
    /// Bytes in the last block, full or not.
    last_length: u32,
    blocks: usize,
    done: usize,
}

impl<'a> Chunk<'a> {
    fn all(file: &'a [u8]) -> impl Iterator<Item = Chunk<'a>> {
        let count = chunk_count(file);
        // A file of a single chunk has no parents, so this chunk is its root.
        let end_flags = if count == 1 { ROOT } else { 0 };
        (0..count).map(move |index| {
            let data = &file[index * CHUNK_BYTES..file.len().min((index + 1) * CHUNK_BYTES)];
            Chunk::new(data, index as u64, end_flags)
        })
    }

    fn new(data: &'a [u8], counter: u64, end_flags: u32) -> Self {
        let (full_blocks, rest) = data.split_at(data.len() - data.len() % BLOCK_BYTES);
        let mut partial = [0; BLOCK_BYTES];
        partial[..rest.len()].copy_from_slice(rest);
        let blocks = data.len().div_ceil(BLOCK_BYTES).max(1);
        let last_length = (data.len() - (blocks - 1) * BLOCK_BYTES) as u32;
        Chunk { chaining_value: KEY, counter, end_flags, full_blocks, partial, last_length, blocks, done: 0 }
    }
}

impl Work for Chunk<'_> {
    fn state(&mut self) -> &mut [u32; 8] {
        &mut self.chaining_value
    }

    fn remaining(&self) -> usize {
        self.blocks - self.done
    }

    fn ready(&self) -> &[u8] {
        if self.done * BLOCK_BYTES < self.full_blocks.len() {
            &self.full_blocks[self.done * BLOCK_BYTES..]
        } else {
            &self.partial
        }
    }

    fn advance(&mut self, blocks: usize) {
        self.done += blocks;
    }
}

fn chunk_settings<const N: usize>(turn: &Turn<'_, N, Chunk<'_>>) -> Blake3Settings<N> {
    let ends = |chunk: &Chunk<'_>| chunk.remaining() == turn.blocks;
    Blake3Settings {
        counters: turn.jobs.map(|chunk| chunk.counter),
        first_flags: turn.jobs.map(|chunk| if chunk.done == 0 { CHUNK_START } else { 0 }),
        last_flags: turn.jobs.map(|chunk| if ends(chunk) { CHUNK_END | chunk.end_flags } else { 0 }),
        last_lengths: turn.jobs.map(|chunk| if ends(chunk) { chunk.last_length } else { BLOCK_BYTES as u32 }),
    }
}

/// The nodes of one file's current level: this many, beginning there.
struct Tree {
    first: usize,
    nodes: usize,
}

impl Tree {
    fn pairs(&self) -> impl Iterator<Item = Pair> {
        let root = if self.nodes == 2 { ROOT } else { 0 };
        let first = self.first;
        (0..self.nodes / 2).map(move |pair| Pair { left: first + 2 * pair, parent: first + pair, root })
    }

    /// Goes on to the level that the parents make, with the node that had no neighbour at its end.
    fn move_up(&mut self, nodes: &mut [[u8; 32]]) {
        if self.nodes % 2 == 1 {
            nodes[self.first + self.nodes / 2] = nodes[self.first + self.nodes - 1];
        }
        self.nodes = self.nodes.div_ceil(2);
    }
}

/// Two neighbours, and where their parent goes.
struct Pair {
    left: usize,
    parent: usize,
    root: u32,
}

/// Computes the parents of all pairs, in place: a parent is never to the right of what it is made from, and pairs
/// come from left to right, so nothing is overwritten that is still needed.
fn join<const N: usize>(kernel: impl CompressBlake3<N>, nodes: &mut [[u8; 32]], pairs: &[Pair]) {
    for group in pairs.chunks(N) {
        // Lanes that are left over repeat the first pair.
        let lanes: [&Pair; N] = std::array::from_fn(|lane| group.get(lane).unwrap_or(&group[0]));
        let inputs = lanes.map(|pair| nodes[pair.left..pair.left + 2].as_flattened());
        let settings = Blake3Settings {
            counters: [0; N],
            first_flags: [PARENT; N],
            last_flags: lanes.map(|pair| pair.root),
            last_lengths: [BLOCK_BYTES as u32; N],
        };
        let mut parents = [KEY; N];
        kernel.compress(&mut parents, &inputs, &settings);
        for (pair, parent) in group.iter().zip(&parents) {
            nodes[pair.parent] = to_bytes(parent);
        }
    }
}

/// The little-endian bytes of eight words.
fn to_bytes(words: &[u32; 8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (bytes, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *bytes = word.to_le_bytes();
    }
    bytes
}

/// Bytes in a chunk (specification, section 2.1).
pub(crate) const CHUNK_BYTES: usize = 1024;

/// The chaining value everything begins with when there is no key: that of SHA-256 (specification, section 2.2).
pub(crate) const KEY: [u32; 8] = sha256::INITIAL_STATE;

/// Flags of the compression function (specification, section 2.1, table 3).
const CHUNK_START: u32 = 1 << 0;
const CHUNK_END: u32 = 1 << 1;
const PARENT: u32 = 1 << 2;
const ROOT: u32 = 1 << 3;
