//! A machine of its own that begins with the state of another.

use crate::machine::Machine;

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
}
