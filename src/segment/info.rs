//! What can be said of a segment and of a variable.

use crate::codec::buffers;
use crate::coordination::AsCoordination;
use crate::error::{Error, Result};
use crate::fallible;
use crate::heap::AsHeap;
use crate::key::{Index, IndexBuf, Key};
use crate::os::mem::Scratch;
use crate::os::object::{self, Status};
use crate::process::attachment::Attachment;
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::wait_policy::WaitPolicy;
use crate::segment::state_snapshot::{StateSnapshot, fatal, identify_by_name};
use crate::variables::AsVariables;
use crate::variables::capacity::largest_bytes;
use crate::variables::read::FoundValue;
use std::ffi::OsStr;
use std::sync::atomic::Ordering;

/// Can it be attached?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Nothing that is known without attaching speaks against it.
    Usable,
    /// A segment of ours, and what it says of itself was changed.
    Damaged,
    /// At a segment's name, and none of ours; or of another version.
    Foreign,
    /// The system does not let this user look.
    Refused,
}

impl Standing {
    /// For programs.
    pub fn code(self) -> &'static str {
        match self {
            Standing::Usable => "usable",
            Standing::Damaged => "damaged",
            Standing::Foreign => "foreign",
            Standing::Refused => "refused",
        }
    }

    /// By its code.
    #[cfg(feature = "python")]
    pub fn named(code: &str) -> Option<Self> {
        [Standing::Usable, Standing::Damaged, Standing::Foreign, Standing::Refused]
            .into_iter()
            .find(|c| c.code() == code)
    }

    /// Of an object that could not be read as a segment.
    pub fn of(error: &Error) -> Self {
        match error {
            Error::Corrupt(_) => Standing::Damaged,
            Error::Incompatible(_) => Standing::Foreign,
            _ => Standing::Refused,
        }
    }
}

/// A segment, in numbers. All sizes are bytes. From [`segments`], of what is no sound segment only what the system says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SegmentInfo {
    /// Its key. `None`, from [`segments`]: of what this user may not look at, what is no file, or whose name is no key's.
    pub key: Option<Key>,
    /// Its object's name.
    pub name: String,
    /// The limit.
    pub size: u64,
    /// What its variables are charged.
    pub used: u64,
    /// What may still be charged.
    pub free: u64,
    /// Variables; from [`segments`], expired ones that nobody has removed yet among them.
    pub count: u64,
    /// Permission bits.
    pub perm: u32,
    /// Owner.
    pub uid: u32,
    /// Nanoseconds since 1970.
    pub created_at: u64,
    /// Living processes attached for writing.
    pub attached: u32,
    /// Longest `bytes` that can be stored under a new integer index.
    pub largest_put: u64,
    /// Memory it takes.
    pub resident: u64,
    /// Of that, what was replaced or removed and is still in somebody's view. From [`segments`], 0.
    pub held: u64,
    /// Of `resident`, what is free: kept for what comes next, until `trim` gives it back. From [`segments`], 0.
    pub spare: u64,
    /// Named locks that are held, and the pid of each one's owner, in his pid namespace: for people. From [`segments`], none.
    pub locks: Vec<(IndexBuf, u32)>,
    /// Can it be attached?
    pub standing: Standing,
    /// Why not, or what else is to be said of it.
    pub why: Option<String>,
}

/// A variable, in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VariableInfo {
    /// Bytes it is charged: 32 for its slot, its key and its value as stored.
    pub size: u64,
    /// Grows with every change.
    pub version: u64,
    /// Nanoseconds until it expires.
    pub expires_in: Option<u64>,
    /// Name of its type, found without running code.
    pub kind: String,
    /// A view of it copies less than 16 KiB, through a handle that may view.
    pub viewable: bool,
}

/// See [`SegmentInfo`].
pub fn info(att: &Attachment, policy: &dyn WaitPolicy) -> Result<SegmentInfo> {
    // Before anything is touched: an object that was cut short is an error.
    att.with_file(|_| ())?;
    let state = att.state();
    let (size, used) = (state.limit.load(Ordering::Relaxed), state.used.load(Ordering::Relaxed));
    let free = size.saturating_sub(used);
    let largest_put = att.variables().largest_put(free, policy)?;
    let status = att.with_file(|fd| object::status(fd))?.map_err(|e| Error::system("fstat", e))?;
    Ok(SegmentInfo {
        key: Some(att.identity.key.clone()),
        name: att.object.name.clone(),
        size,
        used,
        free,
        count: att.variables().live_count(policy)?,
        perm: status.mode & 0o777,
        uid: status.uid,
        created_at: att.identity.created_at,
        attached: att.attached()?,
        largest_put,
        resident: status.resident,
        held: att.heap().held().min(status.resident),
        spare: att.heap().warm().min(status.resident),
        locks: att.coordination().locks(policy)?,
        standing: Standing::Usable,
        why: linked(&status),
    })
}

/// See [`VariableInfo`]. `None`: missing.
pub fn stat(att: &Attachment, index: &Index<'_>, policy: &dyn WaitPolicy) -> Result<Option<VariableInfo>> {
    let mut backoff = Backoff::default();
    loop {
        let mut scratch = Scratch::new();
        let Some(found) = att.variables().find(index, &mut scratch, policy)? else { return Ok(None) };
        let Some(got) = att.variables().get(index, &mut scratch, policy)? else { return Ok(None) };
        let (version, (kind, viewable)) = match &got {
            FoundValue::Inline { bytes, len, version } => (*version, described(&bytes[2..2 + len], 0)?),
            FoundValue::Record { prefix, version, .. } => (*version, described(&scratch.bytes()[*prefix..], 0)?),
            FoundValue::Large(large) => {
                let Some((stream, buffers)) = large.stream(policy)? else {
                    backoff.again(Obstacle::Replaced, att, policy)?;
                    continue;
                };
                (large.version(), described(&stream, buffers)?)
            }
        };
        let expiry = att.variables().version(index, policy)?;
        if version == found.content.version() && expiry.0 == version {
            let expires_in = expiry.1.map(|at| at.saturating_sub(crate::os::boottime_ns()));
            return Ok(Some(VariableInfo { size: found.content.charge(), version, expires_in, kind, viewable }));
        }
        backoff.again(Obstacle::Changed, att.variables(), policy)?;
    }
}

/// The name of a value's type, and whether a view of it copies nothing of size.
fn described(stream: &[u8], buffers: usize) -> Result<(String, bool)> {
    let bare = buffers == 1 && stream == buffers::MEMORYVIEW;
    let kind = if bare { "memoryview".into() } else { crate::codec::kind::type_name(stream)? };
    Ok((kind, buffers::viewable(stream.len(), buffers)))
}

/// What a second name comes to.
fn linked(status: &Status) -> Option<String> {
    let names = status.nlink;
    (names > 1)
        .then(|| format!("it has {names} names (hard links): its memory stays until the others are removed, too"))
}

/// Everything at the names of segments, by name: also what cannot be attached, and why. What vanishes meanwhile is passed over.
///
/// # Errors
/// [`Error::Memory`]; [`Error::Access`] or [`Error::System`] where the directory cannot be listed, or no descriptor is left to look.
pub fn segments() -> Result<Vec<SegmentInfo>> {
    let names = object::list(crate::key::PREFIX)?;
    fallible::collect(names.iter().filter_map(|name| seen(name).transpose()), "a list of segments")
}

fn seen(name: &OsStr) -> Result<Option<SegmentInfo>> {
    let status = match object::status_of(name) {
        Ok(status) => status,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(Error::system(format!("looking at {}", name.to_string_lossy()), error)),
    };
    match summary(name) {
        Err(error) if fatal(&error) => Err(error),
        Err(error) => Ok(Some(unsound(name, &status, &error))),
        found => found,
    }
}

/// Of what is no sound segment: what the system says.
fn unsound(name: &OsStr, status: &Status, error: &Error) -> SegmentInfo {
    let standing = Standing::of(error);
    let name = name.to_string_lossy();
    // The key is for who may do something by it.
    let hopeless = !status.regular || (standing == Standing::Refused && status.uid != crate::os::euid());
    SegmentInfo {
        key: if hopeless { None } else { Key::of_object_name(&name) },
        name: name.into(),
        size: 0,
        used: 0,
        free: 0,
        count: 0,
        perm: status.mode & 0o777,
        uid: status.uid,
        created_at: 0,
        attached: 0,
        largest_put: 0,
        resident: status.resident,
        held: 0,
        spare: 0,
        locks: Vec::new(),
        standing,
        why: Some(error.to_string()),
    }
}

/// Of a segment that is not attached: read, never mapped.
fn summary(name: &OsStr) -> Result<Option<SegmentInfo>> {
    let Some((fd, identity, status)) = identify_by_name(name)? else { return Ok(None) };
    let state = StateSnapshot::of(&fd)?;
    let (size, used) = (state.limit(), state.used());
    let lock_fd = match identity.lock_object {
        0 => Some(fd),
        _ => object::open(crate::format::identity::Identity::lock_name(&identity.id), false).ok(),
    };
    let living = |n: &u32| {
        lock_fd
            .as_ref()
            .is_some_and(|fd| crate::os::bytelock::is_locked(fd, crate::os::bytelock::byte_of(*n)).unwrap_or(false))
    };
    Ok(Some(SegmentInfo {
        key: Some(identity.key),
        name: name.to_string_lossy().into(),
        size,
        used,
        free: size.saturating_sub(used),
        count: state.count(),
        perm: status.mode & 0o777,
        uid: status.uid,
        created_at: identity.created_at,
        attached: (0..state.participants_top()).filter(living).count() as u32,
        largest_put: largest_bytes(size.saturating_sub(used)),
        resident: status.resident,
        held: 0,
        spare: 0,
        locks: Vec::new(),
        standing: Standing::Usable,
        why: linked(&status),
    }))
}
