//! Keys that came since the last pass: in memory, in the order in which they came, with an index over them.
//!
//! What a key writes at a random place is eight bytes; its hash and sequence follow those of the key before it.

use crate::memory::{HUGE_PAGE, Slab, prefetch};
use crate::table::Table;

/// Hash and sequence.
pub type Pair = (u64, u64);

/// As they lie in memory.
type Stored = [u64; 2];

/// Pairs that lie together.
const RUN: usize = HUGE_PAGE / size_of::<Stored>();
/// Pairs whose memory is asked for ahead when they are sorted.
const AHEAD: usize = 24;

/// Keys of one date and form.
#[derive(Default)]
pub struct Recent {
    /// As many pairs as the index has numbers; what follows is room.
    runs: Vec<Slab<Stored>>,
    index: Table,
}

/// Keys of one date and form from one pass.
pub struct Sealed {
    /// The keys.
    pub recent: Recent,
    /// Sequences below this are in it or before it.
    pub end: u64,
}

impl Recent {
    /// With room for so many before the index grows.
    pub fn with_room(keys: usize) -> Recent {
        Recent { runs: Vec::new(), index: Table::with_room(keys) }
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Bytes of memory.
    pub fn size(&self) -> usize {
        self.index.size() + self.runs.iter().map(Slab::size).sum::<usize>()
    }

    /// Adds a key.
    ///
    /// # Panics
    /// With four thousand million keys: a terabyte's journal was written without a pass.
    #[inline]
    pub fn insert(&mut self, hash: u64, sequence: u64) {
        let number = self.index.len();
        if number / RUN == self.runs.len() {
            self.runs.push(Slab::zeroed(RUN));
        }
        self.runs[number / RUN][number % RUN] = [hash, sequence];
        self.index.insert(hash, u32::try_from(number).expect("fewer than 2^32 keys come between two passes"));
    }

    #[inline]
    fn stored(&self, number: u32) -> &Stored {
        let number = number as usize;
        &self.runs[number / RUN][number % RUN]
    }

    #[inline]
    fn pair(&self, number: u32) -> Pair {
        let &[hash, sequence] = self.stored(number);
        (hash, sequence)
    }

    /// Sequences under a hash.
    pub fn get(&self, hash: u64) -> impl Iterator<Item = u64> {
        self.index.get(hash).map(|number| self.pair(number)).filter(move |pair| pair.0 == hash).map(|pair| pair.1)
    }

    /// True if there is one.
    #[inline]
    pub fn holds(&self, hash: u64) -> bool {
        self.get(hash).next().is_some()
    }

    /// Asks for the memory in which the search for a hash begins, and which a key with it will write to.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// All of them in order of their hashes.
    pub fn sorted(&self) -> Vec<Pair> {
        let numbers = self.index.sorted();
        let mut sorted: Vec<Pair> = Vec::with_capacity(numbers.len());
        for (at, &number) in numbers.iter().enumerate() {
            if let Some(&later) = numbers.get(at + AHEAD) {
                prefetch(self.stored(later));
            }
            sorted.push(self.pair(number));
            // Few are alike in as much as the index holds of them.
            let mut to = at;
            while to > 0 && sorted[to - 1].0 > sorted[to].0 {
                sorted.swap(to - 1, to);
                to -= 1;
            }
        }
        sorted
    }

    /// True if so many keys fit into its room, and it is not many times as large.
    pub fn suits(&self, keys: usize) -> bool {
        self.index.suits(keys)
    }

    /// Takes all out; the room stays.
    pub fn clear(&mut self) {
        self.index.clear();
    }
}
