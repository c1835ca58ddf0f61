//! What the system keeps in memory of a file that is only appended to.
//!
//! Whatever is written goes through the system's cache and stays there until memory is short: a journal would take all that there is, and every page
//! written would be one that was not used for long, or never. In a virtual machine such a page may cost twenty times as much as what is written to it
//! (measured: `bench/README.md`). So the file's older part is given back, and its pages serve what is written next.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that are given back at once, and at most: of a file that was long when it was opened not all at the first time.
const STEP: u64 = 8 << 20;
const STEP_MAX: u64 = 64 << 20;

/// A file, of which the newest bytes are kept in memory.
pub struct PageCache {
    /// None: the file cannot be opened once more. Then the system does as it likes.
    file: Option<File>,
    keep: u64,
    /// What lies before was given back.
    given_back: AtomicU64,
}

impl PageCache {
    /// Of the file at `path`, which another part writes: `keep` bytes at its end stay.
    pub fn of(path: &Path, keep: u64) -> PageCache {
        PageCache { file: File::open(path).ok(), keep, given_back: AtomicU64::new(0) }
    }

    /// Tells that the file ends at `end` now, and is durable up to there. Who calls it is the one who appends.
    pub fn appended(&self, end: u64) {
        let from = self.given_back.load(Ordering::Relaxed);
        let step = end.saturating_sub(self.keep).saturating_sub(from).min(STEP_MAX);
        if step < STEP {
            return;
        }
        self.given_back.store(from + step, Ordering::Relaxed);
        // It is advice: where it is not taken, memory is used as it would be without it.
        #[cfg(target_os = "linux")]
        if let Some(file) = &self.file {
            let len = std::num::NonZeroU64::new(step);
            let _ = rustix::fs::fadvise(file, from, len, rustix::fs::Advice::DontNeed);
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{IoSliceMut, Write};
    use std::os::unix::fs::FileExt;

    use rustix::io::{Errno, ReadWriteFlags, preadv2};

    use super::*;

    const MIB: u64 = 1 << 20;

    /// True if the file's byte is in memory: reading it need not wait for the disk.
    fn is_cached(file: &File, at: u64) -> bool {
        match preadv2(file, &mut [IoSliceMut::new(&mut [0])], at, ReadWriteFlags::NOWAIT) {
            Ok(_) => true,
            Err(Errno::AGAIN) => false,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn the_newest_bytes_of_a_file_stay() {
        // Where this program lies, not where files may be kept in memory only.
        let here = std::env::current_exe().unwrap();
        let directory = tempfile::tempdir_in(here.parent().unwrap()).unwrap();
        let path = directory.path().join("file");
        let mut file = File::options().create_new(true).read(true).write(true).open(&path).unwrap();
        file.write_all(&vec![7; 32 << 20]).unwrap();
        file.sync_all().unwrap();
        let cache = PageCache::of(&path, 16 * MIB);
        cache.appended(23 * MIB);
        assert!(is_cached(&file, 0), "that was less than a step");
        cache.appended(32 * MIB);
        assert!(!is_cached(&file, 0) && !is_cached(&file, 15 * MIB) && is_cached(&file, 17 * MIB));
        let mut byte = [0];
        file.read_exact_at(&mut byte, MIB).unwrap();
        assert_eq!(byte, [7]);
        PageCache::of(&directory.path().join("none"), 0).appended(64 * MIB);
    }
}
