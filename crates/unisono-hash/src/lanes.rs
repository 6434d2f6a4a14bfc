//! Feeding many streams at once: the one way in.
//!
//! SHA-256 runs every piece in its lanes, whatever its length. BLAKE3 runs whole small files in lanes and gives
//! everything else to the `blake3` crate, whose own vectors a large piece fills. The other algorithms have no lanes.

use crate::algorithm::Algorithm;
use crate::arch::{Avx2, Avx512, CompressBlake3};
use crate::hasher::Hasher;
use crate::kernel::Kernel;
use crate::sha256;
use crate::small_blake3;

/// The next bytes of one stream.
#[derive(Debug)]
pub struct Piece<'a> {
    /// The stream.
    pub hasher: &'a mut Hasher,
    /// Its next bytes: any number, also none.
    pub data: &'a [u8],
    /// Whether the stream ends after them.
    pub last: bool,
}

/// The kernels and scratch space of one thread.
#[derive(Debug)]
pub struct Lanes {
    sha256: sha256::Kernels,
    blake3: Blake3Lanes,
    kernel: Kernel,
    /// Kept only for its memory.
    queue: Vec<usize>,
}

impl Lanes {
    /// Lanes for this kernel of SHA-256, and for narrower ones when few pieces are left.
    ///
    /// BLAKE3 of small files has sixteen lanes with [`Kernel::Avx512`], eight with [`Kernel::Avx2`] and
    /// [`Kernel::ShaNi`] if there is AVX2, and none with [`Kernel::Portable`].
    ///
    /// # Panics
    ///
    /// When this machine does not have the kernel; [`Kernel::is_available`] tells.
    pub fn new(kernel: Kernel) -> Self {
        assert!(kernel.is_available(), "this machine has no kernel `{kernel}`");
        let blake3 = match kernel {
            Kernel::Avx512 => Avx512::detect().map(Blake3Lanes::Sixteen),
            Kernel::Avx2 | Kernel::ShaNi => Avx2::detect().map(Blake3Lanes::Eight),
            Kernel::Portable => None,
        };
        Lanes {
            sha256: sha256::Kernels::new(kernel),
            blake3: blake3.unwrap_or(Blake3Lanes::None),
            kernel,
            queue: Vec::new(),
        }
    }

    /// The kernel of SHA-256 that these lanes were made for.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// How many pieces an update needs to be at full speed: 16, 8, 4 or 1.
    ///
    /// If lengths differ, twice as many keep the lanes full to the end. For BLAKE3 the number is meant for small files;
    /// a large piece is at full speed alone.
    pub fn width(&self, algorithm: Algorithm) -> usize {
        match (algorithm, self.kernel, &self.blake3) {
            (Algorithm::Sha256, Kernel::Avx512, _) => 16,
            (Algorithm::Sha256, Kernel::Avx2, _) => 8,
            (Algorithm::Sha256, Kernel::ShaNi, _) => 4,
            (Algorithm::Blake3, _, Blake3Lanes::Sixteen(_)) => 16,
            (Algorithm::Blake3, _, Blake3Lanes::Eight(_)) => 8,
            _ => 1,
        }
    }

    /// Feeds every piece to its stream. A piece with `last` also ends it: [`Hasher::digest`] then has the digest.
    ///
    /// Pieces may have any mix of lengths. More pieces than [`Lanes::width`] are welcome: a lane that is through
    /// with one takes the next.
    ///
    /// # Panics
    ///
    /// When the pieces are not all of one algorithm, or a stream is fed after its last piece without a
    /// [`Hasher::reset`].
    pub fn update(&mut self, pieces: &mut [Piece<'_>]) {
        let Some(algorithm) = pieces.first().map(|piece| piece.hasher.algorithm()) else { return };
        for piece in &*pieces {
            assert_eq!(piece.hasher.algorithm(), algorithm, "the pieces of an update are of one algorithm");
            assert!(piece.hasher.digest().is_none(), "a stream that has ended was fed");
        }
        match algorithm {
            Algorithm::Sha256 => self.update_sha256(pieces),
            Algorithm::Blake3 => self.update_blake3(pieces),
            _ => pieces.iter_mut().for_each(Piece::update_alone),
        }
    }

    fn update_sha256(&mut self, pieces: &mut [Piece<'_>]) {
        let mut jobs = Vec::with_capacity(pieces.len());
        jobs.extend(pieces.iter_mut().map(|piece| piece.hasher.sha256().job(piece.data, piece.last)));
        self.sha256.run(&mut jobs, &mut self.queue);
        for (piece, job) in pieces.iter_mut().zip(&jobs) {
            let stream = piece.hasher.sha256();
            stream.finish(job);
            if piece.last {
                let digest = stream.digest();
                piece.hasher.finish(&digest);
            }
        }
    }

    fn update_blake3(&mut self, pieces: &mut [Piece<'_>]) {
        match self.blake3 {
            Blake3Lanes::Sixteen(kernel) => self.update_blake3_in_lanes::<16>(kernel, pieces),
            Blake3Lanes::Eight(kernel) => self.update_blake3_in_lanes::<8>(kernel, pieces),
            Blake3Lanes::None => pieces.iter_mut().for_each(Piece::update_alone),
        }
    }

    fn update_blake3_in_lanes<const N: usize>(&mut self, kernel: impl CompressBlake3<N>, pieces: &mut [Piece<'_>]) {
        let (small, others): (Vec<_>, Vec<_>) = pieces.iter_mut().partition(|piece| piece.is_small_file::<N>());
        others.into_iter().for_each(Piece::update_alone);
        if small.len() < FEWEST_SMALL_FILES {
            return small.into_iter().for_each(Piece::update_alone);
        }
        let files: Vec<&[u8]> = small.iter().map(|piece| piece.data).collect();
        let digests = small_blake3::digests(kernel, &files, &mut self.queue);
        for (piece, digest) in small.into_iter().zip(digests) {
            piece.hasher.finish(&digest);
        }
    }
}

impl Piece<'_> {
    fn update_alone(&mut self) {
        self.hasher.update_alone(self.data, self.last);
    }

    /// Whether this is all of a stream of BLAKE3, and so short that lanes shared with others are faster.
    ///
    /// The crate works with as many lanes, and is a little faster once one file fills them twice. Before, a second
    /// round that is not full costs it more than our lanes lose: 24 KiB gave 6.2 GB/s alone and 7.5 in company, and
    /// 32 KiB 8.5 and 7.7 (Zen 5, sixteen lanes).
    fn is_small_file<const LANES: usize>(&self) -> bool {
        self.last && self.data.len() < 2 * LANES * small_blake3::CHUNK_BYTES && self.hasher.is_untouched_blake3()
    }
}

/// What chunks of different files share.
#[derive(Debug)]
enum Blake3Lanes {
    Sixteen(Avx512),
    Eight(Avx2),
    None,
}

/// One file alone would leave most lanes empty; two of 1 KiB are faster in sixteen lanes than one after the other.
const FEWEST_SMALL_FILES: usize = 2;
