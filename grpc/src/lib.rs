//! The gRPC front: terminals and head office call the engine here.
//!
//! A call comes in at [`serve`]'s listener, is checked and turned into rows of the core in `rows`, with the items that `desk` makes,
//! submitted in `terminal` or `admin` (`members`: persons; `feed`: what the journal says), and answered by `answers` once the core says that all it saw is durable. What people write and
//! print - coupon codes, phone numbers - is read in [`texts`].
//!
//! Invariants: a request that was submitted runs to its end, whoever goes away; a refusal is an answer, an error of the
//! call means malformed (INVALID_ARGUMENT) or unknown (UNAVAILABLE); no error tells what is inside the machine.
//! This crate does not know the journal, the rules or Python.

mod admin;
mod answers;
pub mod codec;
mod counter;
mod desk;
mod feed;
mod listener;
mod members;
mod rows;
mod server;
mod terminal;
pub mod texts;

pub use server::{ServeError, Server, serve};

/// Messages, services and clients as generated from `onecard/v1/*.proto`.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("onecard.v1");

    /// The protos as a serialized `FileDescriptorSet`.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}
