//! Response codes of ISO 8583, as `docs/codes.md` gives them.

/// Outcome of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[allow(missing_docs)] // `text` says it
pub enum Code {
    Approved = 0,
    InvalidTransaction = 12,
    InvalidAmount = 13,
    InvalidCard = 14,
    OriginalNotFound = 25,
    FormatError = 30,
    InsufficientFunds = 51,
    ExpiredCard = 54,
    UnknownTerminal = 58,
    ExceedsLimit = 61,
    RestrictedCard = 62,
    NotAvailable = 91,
    Duplicate = 94,
}

impl Code {
    /// Every code there is.
    pub const ALL: [Code; 13] = [
        Code::Approved,
        Code::InvalidTransaction,
        Code::InvalidAmount,
        Code::InvalidCard,
        Code::OriginalNotFound,
        Code::FormatError,
        Code::InsufficientFunds,
        Code::ExpiredCard,
        Code::UnknownTerminal,
        Code::ExceedsLimit,
        Code::RestrictedCard,
        Code::NotAvailable,
        Code::Duplicate,
    ];

    /// The ISO 8583 number.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The code with this number, if it is one of ours.
    pub fn from_number(number: u8) -> Option<Code> {
        Code::ALL.into_iter().find(|code| code.number() == number)
    }

    /// What it says, in words.
    pub fn text(self) -> &'static str {
        match self {
            Code::Approved => "approved",
            Code::InvalidTransaction => "invalid transaction",
            Code::InvalidAmount => "invalid amount",
            Code::InvalidCard => "invalid card number",
            Code::OriginalNotFound => "original not found",
            Code::FormatError => "format error",
            Code::InsufficientFunds => "insufficient funds",
            Code::ExpiredCard => "expired card",
            Code::UnknownTerminal => "terminal not registered",
            Code::ExceedsLimit => "exceeds a limit",
            Code::RestrictedCard => "restricted card",
            Code::NotAvailable => "engine not available, try again later",
            Code::Duplicate => "duplicate key with another content",
        }
    }
}
