//! The handle on one of PHP's segments.

use crate::error::{Error, Result};
use crate::fallible;
use crate::os::fork::ForkMutex;
use crate::os::mem::Scratch;
use crate::os::sysv_shm::{self, Mapping};
use crate::php::attach::{self, is_gone, name, with_name};
use crate::php::header::Header;
use crate::php::patience::patiently;
use crate::php::variables::{Snapshot, variables};
use crate::php::{put, read, remove};
use crate::sync::revocable::{Revocable, RevocableGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A handle replaces often from this number of replacements on.
const OFTEN: u32 = 16;

/// A handle on a segment. Any number of threads may use it.
pub struct Segment {
    mapping: Revocable<Mapping>,
    /// One thread of this process changes something at a time.
    changing: ForkMutex<()>,
    /// How many variables this handle has replaced, up to [`OFTEN`].
    replacements: AtomicU32,
    key: i32,
    id: i32,
    size: u64,
    created: bool,
}

/// What a segment is like.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Info {
    pub key: i32,
    pub id: i32,
    /// The size that the kernel tells.
    pub size: u64,
    /// The size that the header tells.
    pub total: u64,
    /// Bytes between the first chunk and the end of the last one.
    pub used: u64,
    /// Bytes that PHP may still use.
    pub free: u64,
    /// Number of variables.
    pub count: u64,
    pub permissions: u32,
    pub uid: u32,
    pub gid: u32,
    /// How often the segment is mapped, by all processes.
    pub attached: u64,
    pub creator_pid: i32,
    /// The process that mapped or unmapped it last, or 0.
    pub last_pid: i32,
    /// Seconds since 1970, or 0 for never.
    pub attached_at: i64,
    /// Seconds since 1970, or 0 for never.
    pub detached_at: i64,
    /// Seconds since 1970.
    pub changed_at: i64,
    /// The key is free already, and the segment goes with its last map.
    pub removed: bool,
}

impl Segment {
    /// Attaches to the segment with a key. `create` tells whether it is created; `None` is: if it is missing.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Exists`], [`Error::Access`], [`Error::Incompatible`], [`Error::Corrupt`],
    /// [`Error::Invalid`], [`Error::System`].
    pub fn attach(key: i32, size: u64, permissions: u32, create: Option<bool>) -> Result<Self> {
        let attached = attach::attach(key, size, permissions, create)?;
        Ok(Segment {
            size: attached.map.size(),
            mapping: Revocable::new(Arc::new(attached.map)),
            changing: ForkMutex::new(()),
            replacements: AtomicU32::new(0),
            key,
            id: attached.id,
            created: attached.created,
        })
    }

    /// Calls `with` with a private copy of a variable's text, and the offset of the text in the segment. Returns `None`
    /// if there is no such variable.
    ///
    /// # Errors
    /// [`Error::Detached`], [`Error::Corrupt`], [`Error::Incompatible`], [`Error::Memory`], and [`Error::Busy`] if
    /// other processes change the variable all the time.
    #[inline]
    pub fn read<R>(&self, index: i64, with: impl FnOnce(&[u8], u64) -> R) -> Result<Option<R>> {
        let mut copy = Scratch::new();
        let map = self.map()?;
        let found = read::read(&map, index, &mut copy).map_err(|error| with_name(self.key, error))?;
        drop(map);
        Ok(found.map(|offset| with(copy.bytes(), offset)))
    }

    /// Stores a variable. `quiet` tells that everybody takes a lock; the order of stores is the same today.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Detached`], [`Error::Corrupt`], [`Error::Incompatible`], and [`Error::Invalid`] for
    /// the reserved indexes.
    #[inline]
    pub fn put(&self, index: i64, text: &[u8], quiet: bool) -> Result<()> {
        self.put_apart(index, text, quiet, |put| put())
    }

    /// The same. `apart` calls what it is given, and may let other threads run meanwhile.
    ///
    /// SYNC: the use of the mapping begins before and ends after that: where an interpreter's lock serialises all calls,
    /// uses are counted with that lock held ([`Revocable`]).
    ///
    /// # Errors
    /// As of [`Segment::put`].
    pub fn put_apart(
        &self,
        index: i64,
        text: &[u8],
        _quiet: bool,
        apart: impl FnOnce(&mut (dyn FnMut() + Send)),
    ) -> Result<()> {
        let (map, mut done) = (self.map()?, Ok(()));
        let map: &Mapping = &map;
        apart(&mut || done = self.put_into(map, index, text));
        done
    }

    fn put_into(&self, map: &Mapping, index: i64, text: &[u8]) -> Result<()> {
        let _changing = self.changing.lock();
        let replacements = self.replacements.load(Ordering::Relaxed);
        let replaced = put::put(map, index, text, replacements == OFTEN);
        if replaced.map_err(|error| with_name(self.key, error))? && replacements < OFTEN {
            self.replacements.store(replacements + 1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Returns `true` if there is a variable with this index.
    ///
    /// # Errors
    /// [`Error::Detached`], [`Error::Corrupt`], [`Error::Incompatible`].
    pub fn has(&self, index: i64) -> Result<bool> {
        read::has(&*self.map()?, index).map_err(|error| with_name(self.key, error))
    }

    /// Removes a variable. Returns `false` if there is none.
    ///
    /// # Errors
    /// [`Error::Detached`], [`Error::Corrupt`], [`Error::Incompatible`].
    pub fn remove(&self, index: i64) -> Result<bool> {
        let (map, _changing) = (self.map()?, self.changing.lock());
        remove::remove(&map, index).map_err(|error| with_name(self.key, error))
    }

    /// Removes all variables.
    ///
    /// # Errors
    /// [`Error::Detached`], [`Error::Corrupt`], [`Error::Incompatible`].
    pub fn clear(&self) -> Result<()> {
        let (map, _changing) = (self.map()?, self.changing.lock());
        remove::clear(&map).map_err(|error| with_name(self.key, error))
    }

    /// Returns the indexes of all variables, in the order of the chain.
    ///
    /// # Errors
    /// [`Error::Detached`], [`Error::Corrupt`], [`Error::Incompatible`].
    pub fn indexes(&self) -> Result<Vec<i64>> {
        let lengths = self.lengths()?.into_iter();
        fallible::collect(lengths.map(|(index, _)| Ok(index)), "the indexes of a segment of PHP's")
    }

    /// Returns index and length of the text of all variables, in the order of the chain.
    ///
    /// # Errors
    /// [`Error::Detached`], [`Error::Corrupt`], [`Error::Incompatible`].
    pub fn lengths(&self) -> Result<Vec<(i64, u64)>> {
        let all = patiently(|| variables(&*self.map()?)).map_err(|error| with_name(self.key, error))?;
        fallible::collect(all.iter().map(|chunk| Ok((chunk.key, chunk.length))), "the variables of a segment of PHP's")
    }

    /// Calls `with` with index, text and the offset of the text of each variable, in the order of the chain. They are
    /// of one moment, unless the segment changes all the time, or there is no memory for a copy of all: then each text
    /// is read as [`Segment::read`] does. `with` may do what it likes, also detach.
    ///
    /// # Errors
    /// Those of [`Segment::read`], and what `with` returns.
    pub fn each<E, F>(&self, mut with: F) -> std::result::Result<(), E>
    where
        E: From<Error>,
        F: FnMut(i64, &[u8], u64) -> std::result::Result<(), E>,
    {
        let snapshot = Snapshot::take(&*self.map()?);
        if let Some(snapshot) = snapshot {
            return snapshot.iter().try_for_each(|(index, text, offset)| with(index, text, offset));
        }
        for index in self.indexes()? {
            self.read(index, |text, offset| with(index, text, offset))?.transpose()?;
        }
        Ok(())
    }

    /// Fails as each change does for which the header is too damaged.
    ///
    /// # Errors
    /// [`Error::Detached`], [`Error::Corrupt`], [`Error::Incompatible`].
    pub fn check_header(&self) -> Result<()> {
        patiently(|| Header::read_to_change(&*self.map()?).map(drop)).map_err(|error| with_name(self.key, error))
    }

    /// Returns what the segment is like.
    ///
    /// # Errors
    /// [`Error::Detached`], [`Error::Corrupt`], [`Error::Incompatible`], [`Error::System`].
    pub fn info(&self) -> Result<Info> {
        let map = self.map()?;
        let (header, count) = patiently(|| Ok((Header::read(&map)?, variables(&map)?.len() as u64)))
            .map_err(|error| with_name(self.key, error))?;
        let status = sysv_shm::status(self.id).map_err(|error| {
            Error::io(format!("asking about the segment of PHP's with key {}", name(self.key)), error)
        })?;
        Ok(Info {
            key: self.key,
            id: self.id,
            size: self.size,
            total: header.total,
            used: header.end - header.start,
            free: header.usable(),
            count,
            permissions: status.permissions,
            uid: status.uid,
            gid: status.gid,
            attached: status.attached,
            creator_pid: status.creator_pid,
            last_pid: status.last_pid,
            attached_at: status.attached_at,
            detached_at: status.detached_at,
            changed_at: status.changed_at,
            removed: status.removed,
        })
    }

    /// Removes the segment: its key is free at once. Handles that have it attached go on working, as in PHP. Does
    /// nothing if it was removed before.
    ///
    /// # Errors
    /// [`Error::Detached`], [`Error::Access`] if another user owns it, [`Error::System`].
    pub fn destroy(&self) -> Result<()> {
        let _map = self.map()?;
        match sysv_shm::remove(self.id) {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => Err(Error::Access(format!(
                "the segment of PHP's with key {} can be removed by its owner alone",
                name(self.key)
            ))),
            Err(error) if !is_gone(&error) => {
                Err(Error::io(format!("removing the segment of PHP's with key {}", name(self.key)), error))
            }
            _ => Ok(()),
        }
    }

    /// Detaches the handle. Calls of other threads that have begun end first. Nothing is stored in the segment, and
    /// gaps stay. Does nothing if it was detached before.
    ///
    /// # Errors
    /// None today.
    pub fn detach(&self) -> Result<()> {
        self.mapping.revoke();
        Ok(())
    }

    /// Returns the key.
    pub fn key(&self) -> i32 {
        self.key
    }

    /// Returns the id of the segment.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// Returns the size that the kernel tells.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns `true` if this handle has created the segment.
    pub fn created(&self) -> bool {
        self.created
    }

    /// Returns `true` if the handle was detached.
    pub fn is_detached(&self) -> bool {
        self.mapping.is_revoked()
    }

    /// Returns the map, for as long as the result lives.
    #[inline(always)]
    fn map(&self) -> Result<RevocableGuard<'_, Mapping>> {
        self.mapping.get().ok_or(Error::Detached)
    }
}
