//! A load driver for the benchmarks W2 and W3.
//!
//! It shares the machine with the server that it loads, so it costs little: one thread, a few connections, HTTP/2
//! frames written by hand, messages encoded into them without a copy in between. Invariants: every swipe has a key of
//! its own; every call is counted once, as answered or as an error; in open loop latency counts from the intended time.

pub mod http2;
pub mod load;
pub mod swipes;
