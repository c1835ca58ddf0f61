//! Members: the persons who hold cards. All that is personal lies here, outside the journal, in an environment of its own.
//!
//! The journal and the checkpoint know a member's id and nothing else, so that erasing a member breaks no chain and no book. A change is durable
//! when its call returns. What was erased is out of the file when the environment is opened the next time: it is then written anew.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use crate::calendar::{from_yyyymmdd, is_date};
use crate::codes::Code;
use crate::storage::{Storage, StorageError, Writing};

const FORMAT: &str = "onecard members 1";
const BUCKETS: [&str; 1] = ["members"];
/// Address space: some hundred million members.
const BYTES_MAX: usize = 1 << 37;
/// Set while erased members may still lie in free pages.
const ERASED: &[u8] = b"erased";

/// Most bytes of a name, a contact, a tag, a key or a value.
const TEXT_MAX: usize = 256;
/// Most tags, attributes and consents of a member, each.
const ENTRIES_MAX: usize = 64;
/// Most members that are listed at once.
pub const LIST_MAX: usize = 1_000;

/// How far a member's identity is known (实名制).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum RealName {
    /// Not at all.
    #[default]
    Anonymous = 0,
    /// The member says so.
    Claimed = 1,
    /// It was checked against a document.
    Verified = 2,
}

impl RealName {
    /// The state with this number.
    pub fn from_number(number: u8) -> Option<RealName> {
        [RealName::Anonymous, RealName::Claimed, RealName::Verified].get(usize::from(number)).copied()
    }
}

/// What a member said to a purpose, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    /// Given, or taken back.
    pub given: bool,
    /// The business date.
    pub date: i32,
    /// Which text it was asked for with.
    pub text: String,
}

/// A person who holds cards.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Member {
    /// From 1; the business gives the numbers.
    pub id: u64,
    /// As it is written.
    pub name: String,
    /// Contact.
    pub phone: String,
    /// Contact.
    pub email: String,
    /// YYYYMMDD, from 1900 on; 0: not known.
    pub birthday: u32,
    /// How far the identity is known.
    pub real_name: RealName,
    /// Words that segments are made with.
    pub tags: BTreeSet<String>,
    /// Anything else the business keeps.
    pub attributes: BTreeMap<String, String>,
    /// By purpose.
    pub consents: BTreeMap<String, Consent>,
    /// Business date of the enrolment.
    pub enrolled: i32,
}

impl Member {
    fn is_well_formed(&self) -> bool {
        let texts = [&self.name, &self.phone, &self.email];
        let short = |text: &String| text.len() <= TEXT_MAX;
        let entries = [self.tags.len(), self.attributes.len(), self.consents.len()];
        self.id != 0
            && (self.birthday == 0 || is_birthday(self.birthday))
            && is_date(self.enrolled)
            && texts.into_iter().all(short)
            && entries.into_iter().all(|count| count <= ENTRIES_MAX)
            && self.tags.iter().all(|tag| !tag.is_empty() && short(tag))
            && self.attributes.iter().all(|(key, value)| !key.is_empty() && short(key) && short(value))
            && self.consents.iter().all(|(key, consent)| !key.is_empty() && short(key) && short(&consent.text))
    }
}

/// True for a day from 1900 on. The calendar repeats itself after 400 years.
fn is_birthday(date: u32) -> bool {
    (19_000_000..=99_999_999).contains(&date) && from_yyyymmdd(date % 4_000_000 + 20_000_000).is_some()
}

/// What lies under a member's key: the record, or nothing but that there was one.
#[derive(Serialize, Deserialize)]
enum Kept {
    Member(Member),
    Erased,
}

/// All members.
#[derive(Clone)]
pub struct Members {
    storage: Storage,
    /// Month and day, as MMDD, of who told them: pricing asks for them sale by sale.
    birthdays: Arc<RwLock<BTreeMap<(u16, u64), u16>>>,
}

impl Members {
    /// Opens the environment in `path`, made if it is not there; written anew if members were erased since the last time.
    pub fn open(path: &Path) -> Result<Members, StorageError> {
        let open = || Storage::open(path, BYTES_MAX, BUCKETS, FORMAT);
        let storage = open()?;
        if storage.reading()?.get("meta", ERASED)?.is_none() {
            return Members::over(storage);
        }
        storage.compact()?;
        let storage = open()?;
        let mut writing = storage.writing()?;
        writing.delete("meta", ERASED)?;
        writing.commit()?;
        Members::over(storage)
    }

    fn over(storage: Storage) -> Result<Members, StorageError> {
        let mut birthdays = BTreeMap::new();
        let reading = storage.reading()?;
        for pair in reading.from("members", &key(0, 0))? {
            let (key, value) = pair?;
            let damaged = || reading.damaged("members");
            let (programme, _) = key.split_first_chunk::<2>().ok_or_else(damaged)?;
            if let Kept::Member(member) = postcard::from_bytes(value).map_err(|_| damaged())?
                && member.birthday != 0
            {
                birthdays.insert((u16::from_be_bytes(*programme), member.id), month_day(&member));
            }
        }
        drop(reading);
        Ok(Members { storage, birthdays: Arc::new(RwLock::new(birthdays)) })
    }

    /// Month and day of a member's birthday, as MMDD, if they are known.
    pub fn birthday(&self, programme: u16, id: u64) -> Option<u16> {
        self.birthdays.read().unwrap_or_else(PoisonError::into_inner).get(&(programme, id)).copied()
    }

    /// Takes over what is kept of a member's birthday. It is read under the lock: of two who change a member at once the one that is kept counts.
    fn note_birthday(&self, programme: u16, id: u64) -> Result<(), StorageError> {
        let mut birthdays = self.birthdays.write().unwrap_or_else(PoisonError::into_inner);
        match self.kept(programme, id)? {
            Some(Kept::Member(member)) if member.birthday != 0 => birthdays.insert((programme, id), month_day(&member)),
            _ => birthdays.remove(&(programme, id)),
        };
        Ok(())
    }

    fn put(&self, mut writing: Writing<'_>, programme: u16, member: &Member) -> Result<Code, StorageError> {
        writing.put("members", &key(programme, member.id), &bytes(&Kept::Member(member.clone())))?;
        writing.commit()?;
        self.note_birthday(programme, member.id)?;
        Ok(Code::Approved)
    }

    /// Adds a member. 00 if it is there with the same content, 94 if with another or if it was erased, 30 if it is malformed.
    pub fn enrol(&self, programme: u16, member: &Member) -> Result<Code, StorageError> {
        if !member.is_well_formed() {
            return Ok(Code::FormatError);
        }
        let writing = self.storage.writing()?;
        match self.kept(programme, member.id)? {
            Some(Kept::Member(there)) => Ok(if there == *member { Code::Approved } else { Code::Duplicate }),
            Some(Kept::Erased) => Ok(Code::Duplicate),
            None => self.put(writing, programme, member),
        }
    }

    /// Replaces what is known of a member. 25 if there is none, 30 if it is malformed.
    pub fn update(&self, programme: u16, member: &Member) -> Result<Code, StorageError> {
        if !member.is_well_formed() {
            return Ok(Code::FormatError);
        }
        let writing = self.storage.writing()?;
        match self.kept(programme, member.id)? {
            Some(Kept::Member(_)) => self.put(writing, programme, member),
            Some(Kept::Erased) | None => Ok(Code::OriginalNotFound),
        }
    }

    /// Erases all that is known of a member but that the id was taken. 25 if there never was one.
    pub fn erase(&self, programme: u16, id: u64) -> Result<Code, StorageError> {
        let mut writing = self.storage.writing()?;
        match self.kept(programme, id)? {
            None => return Ok(Code::OriginalNotFound),
            Some(Kept::Erased) => return Ok(Code::Approved),
            Some(Kept::Member(_)) => {}
        }
        writing.put("members", &key(programme, id), &bytes(&Kept::Erased))?;
        writing.put("meta", ERASED, &[])?;
        writing.commit()?;
        self.note_birthday(programme, id)?;
        Ok(Code::Approved)
    }

    /// What is known of a member.
    pub fn get(&self, programme: u16, id: u64) -> Result<Option<Member>, StorageError> {
        Ok(match self.kept(programme, id)? {
            Some(Kept::Member(member)) => Some(member),
            Some(Kept::Erased) | None => None,
        })
    }

    /// Members by id, those above `after`, at most `limit` of them and [`LIST_MAX`]; with a tag only those that have it.
    pub fn list(&self, programme: u16, after: u64, limit: usize, tag: &str) -> Result<Vec<Member>, StorageError> {
        let reading = self.storage.reading()?;
        let mut found = Vec::new();
        let Some(first) = after.checked_add(1) else { return Ok(found) };
        for pair in reading.from("members", &key(programme, first))? {
            let (key, value) = pair?;
            if !key.starts_with(&programme.to_be_bytes()) || found.len() >= limit.min(LIST_MAX) {
                break;
            }
            if let Kept::Member(member) = postcard::from_bytes(value).map_err(|_| reading.damaged("members"))?
                && (tag.is_empty() || member.tags.contains(tag))
            {
                found.push(member);
            }
        }
        Ok(found)
    }

    fn kept(&self, programme: u16, id: u64) -> Result<Option<Kept>, StorageError> {
        let reading = self.storage.reading()?;
        let value = reading.get("members", &key(programme, id))?;
        value.map(|value| postcard::from_bytes(value).map_err(|_| reading.damaged("members"))).transpose()
    }
}

fn month_day(member: &Member) -> u16 {
    (member.birthday % 10_000) as u16
}

fn bytes(kept: &Kept) -> Vec<u8> {
    postcard::to_stdvec(kept).expect("it serialises to memory")
}

fn key(programme: u16, id: u64) -> [u8; 10] {
    let mut key = [0; 10];
    key[..2].copy_from_slice(&programme.to_be_bytes());
    key[2..].copy_from_slice(&id.to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn member(id: u64, name: &str) -> Member {
        let tags = BTreeSet::from(["vip".to_owned(), name.to_owned()]);
        Member {
            id,
            name: name.into(),
            phone: "13800000000".into(),
            birthday: 19_600_229,
            tags,
            enrolled: 20_000,
            ..Member::default()
        }
    }

    fn file_holds(path: &Path, word: &str) -> bool {
        let bytes = fs::read(path.join("data.mdb")).unwrap();
        bytes.windows(word.len()).any(|window| window == word.as_bytes())
    }

    #[test]
    fn a_member_is_enrolled_updated_and_erased_for_good() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("members");
        let members = Members::open(&path).unwrap();
        let ada = member(7, "Ada Unforgettable");
        assert_eq!([members.enrol(1, &ada), members.enrol(1, &ada)].map(Result::unwrap), [Code::Approved; 2]);
        assert_eq!(members.enrol(1, &member(7, "Other")).unwrap(), Code::Duplicate);
        assert_eq!(members.update(1, &member(8, "Nobody")).unwrap(), Code::OriginalNotFound);
        assert_eq!(members.enrol(1, &Member { id: 0, ..ada.clone() }).unwrap(), Code::FormatError);
        assert_eq!(members.enrol(1, &Member { name: "x".repeat(257), ..ada.clone() }).unwrap(), Code::FormatError);
        for birthday in [19_000_229, 18_991_231, 20_231_301, 1] {
            assert_eq!(members.enrol(1, &Member { birthday, ..ada.clone() }).unwrap(), Code::FormatError);
        }
        let verified = Member { real_name: RealName::Verified, ..ada.clone() };
        assert_eq!(members.update(1, &verified).unwrap(), Code::Approved);
        assert_eq!((members.get(1, 7).unwrap(), members.get(2, 7).unwrap()), (Some(verified), None));
        assert_eq!(
            [members.erase(1, 7), members.erase(1, 7), members.erase(1, 9)].map(Result::unwrap),
            [Code::Approved, Code::Approved, Code::OriginalNotFound]
        );
        assert_eq!((members.get(1, 7).unwrap(), members.enrol(1, &ada).unwrap()), (None, Code::Duplicate));
        members.enrol(1, &member(9, "Grace")).unwrap();
        drop(members);
        assert!(file_holds(&path, "Unforgettable"), "LMDB leaves what was deleted in free pages");
        let members = Members::open(&path).unwrap();
        assert!(!file_holds(&path, "Unforgettable"), "the file was written anew");
        assert_eq!(members.get(1, 9).unwrap(), Some(member(9, "Grace")));
        assert_eq!(members.enrol(1, &ada).unwrap(), Code::Duplicate, "the id stays taken");
    }

    #[test]
    fn members_are_listed_by_programme_id_and_tag() {
        let directory = tempfile::tempdir().unwrap();
        let members = Members::open(directory.path()).unwrap();
        for id in 1..=20 {
            members.enrol(1 + (id % 2) as u16, &member(id, if id % 3 == 0 { "third" } else { "other" })).unwrap();
        }
        let ids = |programme, after, limit, tag| -> Vec<u64> {
            members.list(programme, after, limit, tag).unwrap().iter().map(|member| member.id).collect()
        };
        assert_eq!(ids(2, 0, 3, ""), [1, 3, 5]);
        assert_eq!(ids(2, 5, 100, "third"), [9, 15]);
        assert_eq!((ids(1, 19, 9, ""), ids(1, u64::MAX, 9, ""), ids(3, 0, 9, "")), (vec![20], vec![], vec![]));
    }
}
