//! A day's growth of the columns themselves: what the sweep costs, without the engine around it.
//!
//! `cargo bench -p onecard-core --bench growth`, with the numbers of purses in `PURSES` (default `10000000`, separated by commas). A purse takes 24
//! bytes: 100 million need 2.4 GB.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use onecard_core::growth::{Columns, PURSES_MAX};
use onecard_core::memory::Slab;

/// 0.01% a day.
const RATE: u64 = 100_000_000;

/// Who issued the cards.
#[derive(Clone, Copy)]
enum Merchants {
    One,
    /// Ten thousand, by turns.
    ByTurns,
    /// Ten thousand, a thousand cards each at a time.
    Runs,
}

struct Purses {
    balances: Slab<i64>,
    carries: Slab<u64>,
    grown: Slab<u32>,
    merchants: Slab<u32>,
    day: u32,
    granted: Vec<i128>,
}

impl Purses {
    /// Balances up to 100,000 points, or all so large that a product takes more than 64 bits.
    fn new(count: usize, merchants: Merchants, wide: bool) -> Purses {
        let mut purses = Purses {
            balances: Slab::zeroed(count),
            carries: Slab::zeroed(count),
            grown: Slab::zeroed(count),
            merchants: Slab::zeroed(count),
            day: 0,
            granted: vec![0; 10_000],
        };
        let mut state = 1u64;
        for at in 0..count {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            purses.balances[at] = if wide { 1 << 52 } else { (state >> 34) as i64 % 1_000_000_000 };
            purses.merchants[at] = match merchants {
                Merchants::One => 7,
                Merchants::ByTurns => (state >> 40) as u32 % 10_000,
                Merchants::Runs => (at / 1_000 % 10_000) as u32,
            };
        }
        purses
    }

    fn grow(&mut self) -> i128 {
        self.day += 1;
        for at in (0..self.balances.len()).step_by(PURSES_MAX) {
            let run = at..self.balances.len().min(at + PURSES_MAX);
            let mut columns = Columns {
                balances: &mut self.balances[run.clone()],
                carries: &mut self.carries[run.clone()],
                grown: &mut self.grown[run.clone()],
                merchants: &self.merchants[run],
            };
            columns.grow(self.day, RATE, |merchant, sum| self.granted[merchant as usize] += i128::from(sum));
        }
        self.granted[7]
    }
}

fn a_day(criterion: &mut Criterion) {
    let counts = std::env::var("PURSES").unwrap_or("10000000".into());
    for count in counts.split(',').map(|count| count.parse::<usize>().expect("PURSES: numbers, separated by commas")) {
        let mut group = criterion.benchmark_group("a day's growth");
        group.sample_size(10).throughput(Throughput::Elements(count as u64));
        let ways = [
            ("one merchant", Merchants::One, false),
            ("runs of a merchant", Merchants::Runs, false),
            ("merchants by turns", Merchants::ByTurns, false),
            ("128-bit products", Merchants::One, true),
        ];
        for (name, merchants, wide) in ways {
            let mut purses = Purses::new(count, merchants, wide);
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter_batched(|| (), |()| purses.grow(), BatchSize::PerIteration);
            });
        }
        group.finish();
    }
}

criterion_group!(benches, a_day);
criterion_main!(benches);
