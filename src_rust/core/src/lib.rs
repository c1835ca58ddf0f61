//! The transaction engine of onecard: a deterministic state machine, fed by an ordered journal.
//!
//! A request enters at [`pipeline`], is priced and posted by [`machine`], becomes durable in [`journal`], and is answered.
//! [`checkpoint`] keeps the way back short. This crate knows no Python, no gRPC and no time of day.

pub mod accounts;
pub mod advice;
pub mod calendar;
pub mod cards;
pub mod checkpoint;
pub mod clearing;
pub mod codes;
pub mod commands;
pub mod details;
pub mod directory;
pub mod error;
pub mod feed;
pub mod growth;
pub mod journal;
pub mod keys;
pub mod machine;
pub mod members;
pub mod memory;
pub mod names;
pub mod organisation;
pub mod originals;
pub mod page_cache;
pub mod pipeline;
pub mod recovery;
pub mod rules;
pub mod secrets;
pub mod series;
pub mod storage;
pub mod table;
pub mod units;
pub mod verify;
pub mod wallets;
pub mod what_if;

pub use cards::CardNumber;
pub use codes::Code;
pub use commands::{
    Answer, Answers, Batch, CloseReport, Cursor, Cursors, GrowthReport, Kind, Liabilities, MerchantLiability, Original,
    PublishedRules, Registration, Request, RulesVersion, StatementLine, Stats, StorePosition, TrialBalance,
};
pub use details::{Item, ItemKind, Part, Reason};
pub use error::Error;
pub use feed::{Feed, FeedRow};
pub use members::{Consent, Member, RealName};
pub use pipeline::{Engine, Options};
pub use secrets::Secrets;
pub use verify::{Verdict, verify};
