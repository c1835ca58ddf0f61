//! Where triggers are. A trigger follows the feed from outside, and grants or sets tiers for what it sees; each of these says for which entry,
//! and moves its cursor there in the same entry of the journal. So it can be stopped anywhere: what it did before is refused, what it did not
//! is not.

use crate::codes::Code;
use crate::commands::{Cursor, Cursors};
use crate::details::{ItemKind, Reason, item_of};
use crate::journal::entry::{Change, Transaction};
use crate::machine::sale::Refused;
use crate::machine::{Admitted, Machine};

impl Machine {
    /// The card that a cursor names: by its index, which no replacement changes.
    pub(super) fn find_by_index(&self, programme: u16, index: u64) -> Result<u32, Code> {
        let there = u32::try_from(index).ok().filter(|&index| index < self.cards.len());
        there.filter(|&index| self.cards.card(index).programme == programme).ok_or(Code::InvalidCard)
    }

    /// Moves the cursor that a request has; false if it has none. Where it is already, or was before, nothing may be done again.
    #[cold]
    pub(super) fn move_cursor(&self, admitted: &Admitted<'_>, transaction: &mut Transaction) -> Result<bool, Refused> {
        let Some(item) = item_of(admitted.items(), ItemKind::Cursor) else { return Ok(false) };
        // Both are within these bounds at the door.
        let to = Cursor { sequence: item.amount as u64, card: item.low as u32 };
        let cursors = &self.organisation.programmes[admitted.programme].cursors;
        if cursors.get(&item.unit).is_some_and(|at| to <= *at) {
            return Err((Code::NotPermitted, Reason::Behind));
        }
        transaction.changes.push(Change::Cursor { trigger: item.unit, to });
        Ok(true)
    }

    /// Where the triggers of a programme are.
    pub fn cursors(&self, programme: u16) -> Cursors {
        match self.organisation.programme(programme).map(|at| &self.organisation.programmes[at]) {
            Some(found) => Cursors {
                code: Code::Approved,
                open_date: found.calendar.open,
                cursors: found.cursors.iter().map(|(&trigger, &at)| (trigger, at)).collect(),
            },
            None => Cursors { code: Code::UnknownTerminal, open_date: 0, cursors: Vec::new() },
        }
    }
}
