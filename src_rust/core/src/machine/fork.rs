//! A machine of its own that begins with the state of another.

use crate::journal::entry::Transaction;
use crate::machine::Machine;
use crate::rules::Applying;

impl Machine {
    /// Another machine with the same state: what the one does, the other does not see.
    pub fn fork(&self) -> Machine {
        Machine {
            organisation: self.organisation.clone(),
            cards: self.cards.clone(),
            wallets: self.wallets.clone(),
            names: self.names.clone(),
            marks: self.marks.clone(),
            ..Machine::default()
        }
    }

    /// Numbers of the rules that were looked up for the sale that was executed last.
    pub fn applied(&self) -> &Applying {
        &self.applying
    }

    /// The transaction that was executed last; of a machine that executed none, a blank one.
    ///
    /// # Panics
    /// While one is being executed.
    pub fn newest(&self) -> &Transaction {
        self.decided.as_ref().expect("no transaction is being decided")
    }
}
