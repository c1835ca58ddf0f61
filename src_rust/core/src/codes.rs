//! Response codes of ISO 8583, as `docs/codes.md` gives them.

/// Outcome of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
#[allow(missing_docs)] // `text` says it
pub enum Code {
    Approved = 0,
    PickUp = 4,
    PartlyApproved = 10,
    InvalidTransaction = 12,
    InvalidAmount = 13,
    InvalidCard = 14,
    OriginalNotFound = 25,
    FormatError = 30,
    LostCard = 41,
    StolenCard = 43,
    ClosedCard = 46,
    InsufficientFunds = 51,
    ExpiredCard = 54,
    IncorrectPin = 55,
    NotPermitted = 57,
    UnknownTerminal = 58,
    SuspectedFraud = 59,
    ExceedsLimit = 61,
    RestrictedCard = 62,
    ExceedsCount = 65,
    PinRequired = 70,
    PinTriesExceeded = 75,
    NotActivated = 78,
    NotAvailable = 91,
    Duplicate = 94,
}

impl Code {
    /// Every code there is.
    pub const ALL: [Code; 25] = [
        Code::Approved,
        Code::PickUp,
        Code::PartlyApproved,
        Code::InvalidTransaction,
        Code::InvalidAmount,
        Code::InvalidCard,
        Code::OriginalNotFound,
        Code::FormatError,
        Code::LostCard,
        Code::StolenCard,
        Code::ClosedCard,
        Code::InsufficientFunds,
        Code::ExpiredCard,
        Code::IncorrectPin,
        Code::NotPermitted,
        Code::UnknownTerminal,
        Code::SuspectedFraud,
        Code::ExceedsLimit,
        Code::RestrictedCard,
        Code::ExceedsCount,
        Code::PinRequired,
        Code::PinTriesExceeded,
        Code::NotActivated,
        Code::NotAvailable,
        Code::Duplicate,
    ];

    /// True if something was posted: approved, or approved in part.
    #[inline]
    pub fn is_approved(self) -> bool {
        matches!(self, Code::Approved | Code::PartlyApproved)
    }

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
            Code::PickUp => "pick up card: it was replaced",
            Code::PartlyApproved => "approved in part",
            Code::InvalidTransaction => "invalid transaction",
            Code::InvalidAmount => "invalid amount",
            Code::InvalidCard => "invalid card number",
            Code::OriginalNotFound => "original not found",
            Code::FormatError => "format error",
            Code::LostCard => "lost card",
            Code::StolenCard => "stolen card",
            Code::ClosedCard => "closed card",
            Code::InsufficientFunds => "insufficient funds",
            Code::ExpiredCard => "expired card",
            Code::IncorrectPin => "incorrect PIN",
            Code::NotPermitted => "not permitted",
            Code::UnknownTerminal => "terminal not registered",
            Code::SuspectedFraud => "suspected fraud",
            Code::ExceedsLimit => "exceeds a limit",
            Code::RestrictedCard => "restricted card",
            Code::ExceedsCount => "exceeds a count",
            Code::PinRequired => "PIN required",
            Code::PinTriesExceeded => "too many wrong PINs",
            Code::NotActivated => "card not activated",
            Code::NotAvailable => "engine not available, try again later",
            Code::Duplicate => "duplicate key with another content",
        }
    }
}
