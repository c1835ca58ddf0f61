//! The one door to LMDB: an environment with named databases of bytes.
//!
//! Every commit is durable when it returns: no NOSYNC, no NOMETASYNC, no WRITEMAP. No [`Reading`]
//! outlives one call of the engine, or the file would grow. The owner of the data directory holds its lock, so
//! that no other process has the environment open.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use heed::types::Bytes;
use heed::{CommitOrAbort, CompactionOption, Database, Env, EnvOpenOptions, RoTxn, RwTxn, WithoutTls};

/// A failure of LMDB or of the disk below it; the text says what happened and where.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{path}: {what}")]
pub struct StorageError {
    path: PathBuf,
    what: String,
    /// What is under `meta/format` instead of what was expected.
    format: Option<String>,
}

impl StorageError {
    /// Of what was looked for where nothing was ever written.
    pub fn nothing_there(what: &str) -> StorageError {
        failure(Path::new(""), what.into())
    }

    /// True if it is because the environment is of this format and not of the expected one.
    pub fn holds(&self, format: &str) -> bool {
        self.format.as_deref() == Some(format)
    }
}

type Result<T> = std::result::Result<T, StorageError>;
type Bucket = Database<'static, Bytes, Bytes>;

/// More than any number of threads that read at once.
const READERS_MAX: u32 = 512;
const PAGE: usize = 4096;
/// A large value begins so many bytes after the begin of a page.
pub const VALUE_OFFSET: usize = 16;

/// One environment.
#[derive(Clone)]
pub struct Storage {
    env: Env<WithoutTls>,
    buckets: Arc<Vec<(&'static str, Bucket)>>,
    path: PathBuf,
}

impl Storage {
    /// Opens the environment in `path`, made if it is not there, with these databases.
    ///
    /// `format` is the text under `meta/format`. An environment that holds anything else is refused and left as it is.
    pub fn open<const N: usize>(path: &Path, bytes_max: usize, names: [&'static str; N], format: &str) -> Result<Storage> {
        let fail = |what: String| failure(path, what);
        let data = path.join("data.mdb");
        if fs::metadata(&data).is_ok_and(|file| file.len() == 0) {
            return Err(fail(
                "data.mdb is empty: it is not a journal or checkpoint of onecard; move it away or restore it".into(),
            ));
        }
        if !data.exists() {
            make_whole(path, |draft| Storage::open_there(draft, bytes_max, names, format).map(drop))?;
        }
        Storage::open_there(path, bytes_max, names, format)
    }

    fn open_there<const N: usize>(path: &Path, bytes_max: usize, names: [&'static str; N], format: &str) -> Result<Storage> {
        let fail = |what: String| failure(path, what);
        let env = open_environment(path, bytes_max, N as u32 + 1)
            .map_err(|error| fail(format!("cannot be opened: {error}; is it a file of onecard?")))?;
        env.clear_stale_readers().map_err(|error| fail(error.to_string()))?;
        let mut storage = Storage { env, buckets: Arc::default(), path: path.to_owned() };
        let is_new = storage.env.unnamed_database_stat().entries == 0;
        storage.buckets = Arc::new(if is_new {
            storage.create(names, format)?
        } else {
            storage.check_format(format)?;
            storage.existing(names)?
        });
        Ok(storage)
    }

    fn check_format(&self, format: &str) -> Result<()> {
        let transaction = self.env.read_txn().map_err(|error| self.fail(error))?;
        let opened = self.env.open_databases_and_commit(transaction, |opener, transaction| {
            opener.open_database::<Bytes, Bytes>(transaction, Some("meta")).map(CommitOrAbort::<_, ()>::Commit)
        });
        let found = match opened {
            Ok(CommitOrAbort::Commit(Some(meta))) => {
                let transaction = self.env.read_txn().map_err(|error| self.fail(error))?;
                meta.get(&transaction, b"format".as_slice()).map_err(|error| self.fail(error))?.map(<[u8]>::to_vec)
            }
            _ => None,
        };
        if found.as_deref() == Some(format.as_bytes()) {
            return Ok(());
        }
        let found = found.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let what = found.as_ref().map_or("something else".into(), |found| format!("`{found}`"));
        let error = self.fail(format!("holds {what}, not `{format}`; nothing was changed"));
        Err(StorageError { format: found, ..error })
    }

    /// Opens the databases that are there, without writing: an open that fails later must have changed nothing.
    fn existing<const N: usize>(&self, names: [&'static str; N]) -> Result<Vec<(&'static str, Bucket)>> {
        let transaction = self.env.read_txn().map_err(|error| self.fail(error))?;
        let opened = self.env.open_databases_and_commit(transaction, |opener, transaction| {
            let meta = opener.open_database::<Bytes, Bytes>(transaction, Some("meta"))?;
            let mut opened = Vec::with_capacity(N);
            for name in names {
                opened.push(opener.open_database::<Bytes, Bytes>(transaction, Some(name))?);
            }
            let Ok(opened) = <[_; N]>::try_from(opened) else { unreachable!("one was opened for each name") };
            heed::Result::Ok(CommitOrAbort::<_, ()>::Commit((meta, opened)))
        });
        let (meta, opened) = opened.map_err(|error| self.fail(error))?.unwrap_commit();
        let there = names.into_iter().zip(opened).chain([("meta", meta)]);
        there
            .map(|(name, found)| found.map(|found| (name, found)).ok_or_else(|| self.fail(format!("has no database `{name}`"))))
            .collect()
    }

    /// Makes the databases, and `meta/format`, in one commit.
    fn create<const N: usize>(&self, names: [&'static str; N], format: &str) -> Result<Vec<(&'static str, Bucket)>> {
        let transaction = self.env.write_txn().map_err(|error| self.fail(error))?;
        let created = self.env.create_databases_and_commit(transaction, |opener, transaction| {
            let meta = opener.create_database::<Bytes, Bytes>(transaction, Some("meta"))?;
            meta.put(transaction, b"format", format.as_bytes())?;
            let mut opened = Vec::with_capacity(N);
            for name in names {
                opened.push(opener.create_database::<Bytes, Bytes>(transaction, Some(name))?);
            }
            let Ok(opened) = <[_; N]>::try_from(opened) else { unreachable!("one was opened for each name") };
            heed::Result::Ok(CommitOrAbort::<_, ()>::Commit((meta, opened)))
        });
        let (meta, opened) = created.map_err(|error| self.fail(error))?.unwrap_commit();
        Ok(names.into_iter().zip(opened).chain([("meta", meta)]).collect())
    }

    /// Removes the environment in `path`, which nobody has open: whole, whenever the power fails.
    pub fn remove(path: &Path) -> Result<()> {
        let fail = |error: std::io::Error| failure(path, format!("cannot be removed: {error}"));
        let aside = path.with_extension("old");
        remove_all(&aside).map_err(fail)?;
        fs::rename(path, &aside).map_err(fail)?;
        remove_all(&aside).map_err(fail)
    }

    /// Writes the environment, which nobody else has open, anew: what was deleted is in the file no more.
    pub fn compact(self) -> Result<()> {
        let path = self.path.clone();
        let fail = |error: std::io::Error| failure(&path, format!("cannot be written anew: {error}"));
        let (file, draft) = (self.file(), path.join("data.new"));
        let copy = self.env.copy_to_path(&draft, CompactionOption::Enabled).map_err(|error| self.fail(error))?;
        copy.sync_all().map_err(fail)?;
        drop(self);
        fs::rename(&draft, &file).map_err(fail)?;
        fs::File::open(&path).and_then(|folder| folder.sync_all()).map_err(fail)
    }

    /// A snapshot to read from.
    pub fn reading(&self) -> Result<Reading> {
        let transaction = self.env.clone().static_read_txn().map_err(|error| self.fail(error))?;
        Ok(Reading { transaction, storage: self.clone() })
    }

    /// The one transaction that writes; nothing is written unless it is committed.
    pub fn writing(&self) -> Result<Writing<'_>> {
        let transaction = self.env.write_txn().map_err(|error| self.fail(error))?;
        Ok(Writing { transaction, storage: self })
    }

    /// The file that holds all of it.
    pub fn file(&self) -> PathBuf {
        self.path.join("data.mdb")
    }

    /// Bytes of the file so far.
    pub fn size(&self) -> u64 {
        ((self.env.info().last_page_number + 1) * PAGE) as u64
    }

    /// Bytes that may still be written: what the map and the disk have left, whichever is less.
    pub fn room(&self) -> Result<u64> {
        let map = (self.env.info().map_size as u64).saturating_sub(self.size());
        let disk = rustix::fs::statvfs(&self.path).map_err(|error| self.fail(error))?;
        Ok(map.min(disk.f_bavail.saturating_mul(disk.f_frsize)))
    }

    fn bucket(&self, name: &str) -> Bucket {
        let (_, bucket) = self.buckets.iter().find(|(known, _)| *known == name).expect("a database named at open");
        *bucket
    }

    fn fail(&self, error: impl ToString) -> StorageError {
        failure(&self.path, error.to_string())
    }
}

fn failure(path: &Path, what: String) -> StorageError {
    StorageError { path: path.to_owned(), what, format: None }
}

/// Removes a directory, if it is there.
fn remove_all(path: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes an environment that is there whole or not at all, whenever the power fails: LMDB's first pages are not synced
/// when they are written, and a name is durable only when its directory was synced.
fn make_whole(path: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let fail = |error: std::io::Error| failure(path, format!("cannot be created: {error}"));
    let sync = |path: &Path| fs::File::open(path).and_then(|file| file.sync_all()).map_err(fail);
    let draft = path.with_extension("new");
    remove_all(&draft).map_err(fail)?;
    fs::create_dir(&draft).map_err(fail)?;
    make(&draft)?;
    sync(&draft.join("data.mdb"))?;
    sync(&draft)?;
    fs::rename(&draft, path).map_err(fail)?;
    path.parent().map_or(Ok(()), sync)
}

// heed's open is unsafe because a map whose file is changed by others is undefined behaviour. The data directory's
// lock keeps other engines out; the flags are LMDB's defaults.
#[allow(unsafe_code)]
fn open_environment(path: &Path, bytes_max: usize, names: u32) -> heed::Result<Env<WithoutTls>> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(bytes_max.next_multiple_of(PAGE)).max_dbs(names).max_readers(READERS_MAX);
    unsafe { options.open(path) }
}

/// A snapshot.
pub struct Reading {
    transaction: RoTxn<'static, WithoutTls>,
    storage: Storage,
}

impl Reading {
    /// Value of a key.
    pub fn get(&self, bucket: &str, key: &[u8]) -> Result<Option<&[u8]>> {
        self.storage.bucket(bucket).get(&self.transaction, key).map_err(|error| self.storage.fail(error))
    }

    /// Value of a key that must be there, of so many bytes.
    pub fn whole(&self, bucket: &str, key: &[u8], len: usize) -> Result<&[u8]> {
        let value = self.get(bucket, key)?.filter(|value| value.len() == len);
        value.ok_or_else(|| self.damaged(bucket))
    }

    /// Says that what is here is not what was written.
    pub fn damaged(&self, bucket: &str) -> StorageError {
        self.storage.fail(format!("something of `{bucket}` is missing or damaged"))
    }

    /// Number of pairs.
    pub fn count(&self, bucket: &str) -> Result<usize> {
        let count = self.storage.bucket(bucket).len(&self.transaction).map_err(|error| self.storage.fail(error))?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// The pair with the greatest key that is at most `key`.
    pub fn at_or_before(&self, bucket: &str, key: &[u8]) -> Result<Option<(&[u8], &[u8])>> {
        let found = self.storage.bucket(bucket).get_lower_than_or_equal_to(&self.transaction, key);
        found.map_err(|error| self.storage.fail(error))
    }

    /// The pair with the greatest key.
    pub fn last(&self, bucket: &str) -> Result<Option<(&[u8], &[u8])>> {
        self.storage.bucket(bucket).last(&self.transaction).map_err(|error| self.storage.fail(error))
    }

    /// Pairs from `key` on, in order.
    pub fn from(&self, bucket: &str, key: &[u8]) -> Result<impl Iterator<Item = Result<(&[u8], &[u8])>>> {
        let range = (std::ops::Bound::Included(key), std::ops::Bound::Unbounded);
        let pairs = self.storage.bucket(bucket).range(&self.transaction, &range);
        let pairs = pairs.map_err(|error| self.storage.fail(error))?;
        Ok(pairs.map(|pair| pair.map_err(|error| self.storage.fail(error))))
    }
}

/// A transaction that writes.
pub struct Writing<'a> {
    transaction: RwTxn<'a>,
    storage: &'a Storage,
}

impl Writing<'_> {
    /// Sets a key's value.
    pub fn put(&mut self, bucket: &str, key: &[u8], value: &[u8]) -> Result<()> {
        let bucket = self.storage.bucket(bucket);
        bucket.put(&mut self.transaction, key, value).map_err(|error| self.storage.fail(error))
    }

    /// Adds a pair whose key is not there yet; the value is these parts, one after the other.
    pub fn add(&mut self, bucket: &str, key: &[u8], parts: &[&[u8]]) -> Result<()> {
        let bucket = self.storage.bucket(bucket);
        let size = parts.iter().map(|part| part.len()).sum();
        let put = bucket.get_or_put_reserved(&mut self.transaction, key, size, |space| {
            parts.iter().try_for_each(|part| space.write_all(part))
        });
        match put.map_err(|error| self.storage.fail(error))? {
            None => Ok(()),
            Some(_) => Err(self.storage.fail("a pair that was to be added is there already")),
        }
    }

    /// Removes a key, if it is there.
    pub fn delete(&mut self, bucket: &str, key: &[u8]) -> Result<()> {
        let deleted = self.storage.bucket(bucket).delete(&mut self.transaction, key);
        deleted.map(drop).map_err(|error| self.storage.fail(error))
    }

    /// Makes all of it durable.
    pub fn commit(self) -> Result<()> {
        self.transaction.commit().map_err(|error| self.storage.fail(error))
    }
}
