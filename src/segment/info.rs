//! A segment and a variable, in numbers, for callers; and the list of all segments, attached or not. The long report on
//! every object, for `doctor`, is in `inspect`; what invariants hold is asked in `check/`. What stands behind the
//! numbers is in docs/format.md, "State", "Slot".

use crate::codec::buffers;
use crate::coordination::AsCoordination;
use crate::coordination::queue_look::QueueInfo;
use crate::error::{Error, Result};
use crate::fallible;
use crate::format::Eviction;
use crate::heap::AsHeap;
use crate::key::{Index, IndexBuf, Key};
use crate::os::mem::Scratch;
use crate::os::object::{self, Status};
use crate::process::attachment::Attachment;
use crate::process::backoff::{Backoff, Obstacle};
use crate::process::wait_policy::WaitPolicy;
use crate::segment::identify::{concerns_this_process, identify_by_name};
use crate::segment::state_snapshot::StateSnapshot;
use crate::variables::AsVariables;
use crate::variables::capacity::largest_bytes;
use crate::variables::expiry::{NEVER, expiry_in};
use crate::variables::read::{FoundValue, Purpose};
use std::ffi::OsStr;
use std::sync::atomic::Ordering;

/// Can a segment be attached?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Yes, as far as that is known without attaching.
    Usable,
    /// It is a segment of ours that is damaged: what it says of itself has been changed.
    Damaged,
    /// It is an object at a segment's name that is not a segment of ours, or is of another version.
    Foreign,
    /// The system does not let this user look.
    Refused,
}

impl Standing {
    /// The standing as a word, for programs.
    pub fn code(self) -> &'static str {
        match self {
            Standing::Usable => "usable",
            Standing::Damaged => "damaged",
            Standing::Foreign => "foreign",
            Standing::Refused => "refused",
        }
    }

    /// The standing that has this code.
    #[cfg(feature = "python")]
    pub fn named(code: &str) -> Option<Self> {
        [Standing::Usable, Standing::Damaged, Standing::Foreign, Standing::Refused]
            .into_iter()
            .find(|c| c.code() == code)
    }

    /// The standing of an object that could not be read as a segment, from the error.
    pub fn of(error: &Error) -> Self {
        match error {
            Error::Corrupt(_) => Standing::Damaged,
            Error::Incompatible(_) => Standing::Foreign,
            _ => Standing::Refused,
        }
    }
}

/// A segment in numbers. All sizes are bytes. [`segments`] also lists objects that are no sound segments: for these
/// only what the system says is filled in.
///
/// A plain report for callers: one public field for each number, hence so many of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SegmentInfo {
    /// Its key. `None`, from [`segments`], for another user's object that this user may not read, one that is no file,
    /// or one whose name is that of no key.
    pub key: Option<Key>,
    /// Its object's name.
    pub name: String,
    /// The limit.
    pub size: u64,
    /// Bytes that its variables are charged.
    pub used: u64,
    /// Bytes that they may still be charged.
    pub free: u64,
    /// Variables. From [`segments`], also those that have expired and are not removed yet.
    pub count: u64,
    /// Permission bits.
    pub perm: u32,
    /// The owner's uid.
    pub uid: u32,
    /// When it was created, in nanoseconds since 1970.
    pub created_at: u64,
    /// Living processes that are attached for writing.
    pub attached: u32,
    /// The longest `bytes` that can be stored under a new integer index.
    pub largest_put: u64,
    /// Memory that it takes.
    pub resident: u64,
    /// Of `resident`, the values that were replaced or removed and that views still use. From [`segments`], 0.
    pub held: u64,
    /// Of `resident`, what is free: it is kept for the next values until `trim` gives it back. From [`segments`], 0.
    pub spare: u64,
    /// What it evicts where there is no room.
    pub evict: Option<Eviction>,
    /// Variables that it has evicted.
    pub evicted: u64,
    /// Named locks that are held, and the pid of each owner in that owner's pid namespace, for people to read. From
    /// [`segments`], none.
    pub locks: Vec<(IndexBuf, u32)>,
    /// Queues that have items. From [`segments`], none.
    pub queues: Vec<QueueInfo>,
    /// Can it be attached?
    pub standing: Standing,
    /// Why it cannot be attached, or what else the user should know.
    pub why: Option<String>,
}

/// A variable in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VariableInfo {
    /// Bytes that it is charged: 32 for its slot, and its key and its value as stored.
    pub size: u64,
    /// Its version, which grows with every change.
    pub version: u64,
    /// Nanoseconds until it expires, if it does.
    pub expires_in: Option<u64>,
    /// The name of its type, found without running code.
    pub kind: String,
    /// Does a view of it copy less than 16 KiB (through a handle that may make views)?
    pub viewable: bool,
    /// Do processes change it where it lies?
    pub in_place: bool,
}

/// Describes the segment of an attachment.
pub fn info(att: &Attachment, policy: &dyn WaitPolicy) -> Result<SegmentInfo> {
    // The length comes first: if the object was cut short, touching its pages would be a signal and not an error.
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
        attached: att.living_participants()?,
        largest_put,
        resident: status.resident,
        held: att.heap().retired_bytes().min(status.resident),
        spare: att.heap().warm_bytes().min(status.resident),
        evict: att.eviction,
        evicted: att.state().evicted.load(Ordering::Relaxed),
        locks: att.coordination().locks(policy)?,
        queues: att.coordination().queues(policy)?,
        standing: Standing::Usable,
        why: hard_link_note(&status),
    })
}

/// Describes a variable. `None` if it is missing.
pub fn stat(att: &Attachment, index: &Index<'_>, policy: &dyn WaitPolicy) -> Result<Option<VariableInfo>> {
    let mut backoff = Backoff::default();
    loop {
        let mut scratch = Scratch::new();
        let Some(got) = att.variables().get_as(Purpose::Look, index, &mut scratch, policy)? else { return Ok(None) };
        let (version, (kind, viewable)) = match &got {
            FoundValue::Inline { bytes, len, version } => (*version, type_and_viewable(&bytes[2..2 + len], 0)?),
            FoundValue::Record { prefix, version, .. } => {
                (*version, type_and_viewable(&scratch.bytes()[*prefix..], 0)?)
            }
            FoundValue::Large(large) => {
                let Some((stream, buffers)) = large.stream(policy)? else {
                    backoff.again(Obstacle::Replaced, att, policy)?;
                    continue;
                };
                (large.version(), type_and_viewable(&stream, buffers)?)
            }
        };
        // What the value is follows from the version. The size and the expiry are of one instant: `expire` changes both.
        let mut scratch = Scratch::new();
        let Some(found) = att.variables().find(index, &mut scratch, policy)? else { return Ok(None) };
        if version == found.content.version() {
            let expiry = if found.content.expires() { expiry_in(scratch.bytes()) } else { None };
            let expires_in = expiry.filter(|at| *at != NEVER).map(|at| at.saturating_sub(crate::os::boottime_ns()));
            let (size, in_place) = (found.content.charge(), found.content.is_in_place());
            return Ok(Some(VariableInfo { size, version, expires_in, kind, viewable, in_place }));
        }
        backoff.again(Obstacle::Changed, att.variables(), policy)?;
    }
}

/// The pickle of a variable, without the buffers beside it. `None` if it is missing.
#[cfg(feature = "python")]
pub fn stream(att: &Attachment, index: &Index<'_>, policy: &dyn WaitPolicy) -> Result<Option<Vec<u8>>> {
    let mut backoff = Backoff::default();
    loop {
        let mut scratch = Scratch::new();
        return match att.variables().get_as(Purpose::Look, index, &mut scratch, policy)? {
            None => Ok(None),
            Some(FoundValue::Inline { bytes, len, .. }) => fallible::copied(&bytes[2..2 + len], "a pickle").map(Some),
            Some(FoundValue::Record { prefix, .. }) => {
                fallible::copied(&scratch.bytes()[prefix..], "a pickle").map(Some)
            }
            Some(FoundValue::Large(large)) => match large.stream(policy)? {
                Some((stream, _)) => Ok(Some(stream)),
                None => {
                    backoff.again(Obstacle::Replaced, att, policy)?;
                    continue;
                }
            },
        };
    }
}

/// The name of a value's type, and whether a view of it copies little.
fn type_and_viewable(stream: &[u8], buffers: usize) -> Result<(String, bool)> {
    let bare = buffers == 1 && stream == buffers::MEMORYVIEW;
    let kind = if bare { "memoryview".into() } else { crate::codec::kind::type_name(stream)? };
    Ok((kind, buffers::viewable(stream.len(), buffers)))
}

/// What the user should know about an object that has more names than its own.
fn hard_link_note(status: &Status) -> Option<String> {
    let names = status.nlink;
    (names > 1)
        .then(|| format!("it has {names} names (hard links): its memory stays until the others are removed, too"))
}

/// Every object at a segment's name, sorted by name: also those that cannot be attached, and why. Objects that vanish
/// meanwhile are left out.
///
/// # Errors
/// [`Error::Memory`]; [`Error::Access`] or [`Error::System`] if the directory cannot be listed, or this process has no
/// descriptor left to look.
pub fn segments() -> Result<Vec<SegmentInfo>> {
    let names = object::list(crate::key::PREFIX)?;
    fallible::collect(names.iter().filter_map(|name| describe_object(name).transpose()), "a list of segments")
}

/// Describes the object at a segment's name. `None` if it vanished meanwhile.
fn describe_object(name: &OsStr) -> Result<Option<SegmentInfo>> {
    let status = match object::status_of(name) {
        Ok(status) => status,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(Error::system(format!("looking at {}", name.to_string_lossy()), error)),
    };
    match describe_unattached(name) {
        Err(error) if concerns_this_process(&error) => Err(error),
        Err(error) => Ok(Some(describe_unusable(name, &status, &error))),
        found => found,
    }
}

/// Describes an object that is no sound segment, by what the system says.
fn describe_unusable(name: &OsStr, status: &Status, error: &Error) -> SegmentInfo {
    let standing = Standing::of(error);
    let name = name.to_string_lossy();
    // The key is given only if this user may do something with it.
    let hopeless = !status.regular || (standing == Standing::Refused && status.uid != crate::os::euid());
    SegmentInfo {
        key: if hopeless { None } else { Key::from_object_name(&name) },
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
        evict: None,
        evicted: 0,
        locks: Vec::new(),
        queues: Vec::new(),
        standing,
        why: Some(error.to_string()),
    }
}

/// Describes a segment that is not attached: it is read by calls, and not mapped. `None` if it vanished meanwhile.
fn describe_unattached(name: &OsStr) -> Result<Option<SegmentInfo>> {
    let Some((fd, identity, status)) = identify_by_name(name)? else { return Ok(None) };
    let state = StateSnapshot::of(&fd)?;
    let (size, used) = (state.limit(), state.used());
    let lock_fd = match identity.lock_object {
        0 => Some(fd),
        _ => object::open(crate::format::identity::Identity::lock_object_name(&identity.id), false).ok(),
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
        evict: state.eviction().flatten(),
        evicted: state.evicted(),
        locks: Vec::new(),
        queues: Vec::new(),
        standing: Standing::Usable,
        why: hard_link_note(&status),
    }))
}
