//! What the slot of a named lock says, and its 14 bytes.
//!
//! The bytes are in "Slot" and "Record" of docs/format.md. Who may change them is in `lock_slot.rs`.

use crate::format::PARTICIPANTS;
use crate::format::slot_flags::LOCK;
use crate::os;

/// How long a lock stays reserved for the next owner, in milliseconds.
pub const RESERVED_MS: u16 = 100;
/// The id of no participant.
pub const NO_PARTICIPANT: ParticipantId = u32::MAX;

/// The low bytes of an inline lock's slot: kind, flag and length.
const INLINE_LOCK: u128 = 2 | LOCK as u128 | 14 << 8;

/// A participant number together with its generation. No other participant has the same one later, unlike the number.
pub type ParticipantId = u32;

/// Private to the process: a copy of what the slot of a lock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockState {
    /// The participant that owns the lock. [`NO_PARTICIPANT`]: the lock is reserved for `next`.
    pub owner: ParticipantId,
    /// The participant that is to own the lock next. [`NO_PARTICIPANT`]: none asked.
    pub next: ParticipantId,
    /// Which waiter of the next owner asked.
    pub token: u16,
    /// When the lock was reserved, in milliseconds of the monotonic clock, modulo 2^16.
    pub since: u16,
}

impl LockState {
    /// Returns the state of a lock that a participant owns and for which none has asked.
    pub fn of(owner: ParticipantId) -> Self {
        LockState { owner, next: NO_PARTICIPANT, token: 0, since: 0 }
    }

    /// Returns the 14 bytes of a lock as a number.
    #[inline(always)]
    pub(super) fn bits(self) -> u128 {
        let ids = u64::from(self.owner) | u64::from(self.next) << 32;
        u128::from(ids) | u128::from(u64::from(self.token) | u64::from(self.since) << 16) << 64
    }

    /// Reads a state from the number that `bits` returns.
    #[inline(always)]
    fn from_bits(bits: u128) -> Self {
        let (ids, rest) = (bits as u64, (bits >> 64) as u64);
        LockState { owner: ids as u32, next: (ids >> 32) as u32, token: rest as u16, since: (rest >> 16) as u16 }
    }

    /// Returns the 14 bytes of a lock, as in its record.
    pub(super) fn to_bytes(self) -> [u8; 14] {
        self.bits().to_le_bytes()[..14].try_into().expect("14 bytes")
    }

    /// Reads a state from the 14 bytes of a record. `None`: there are more or fewer bytes.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut bits = [0; 16];
        bits[..14].copy_from_slice(bytes.get(..14).filter(|all| all.len() == bytes.len())?);
        Some(Self::from_bits(u128::from_le_bytes(bits)))
    }

    /// Returns the words of an integer name's slot that follow the name. They are computed without an array of bytes,
    /// because loading words from bytes that were just stored stalls the processor.
    #[inline(always)]
    pub(super) fn slot_words(self) -> [u64; 2] {
        let words = INLINE_LOCK | self.bits() << 16;
        [words as u64, (words >> 64) as u64]
    }

    /// Reads a state from the words of an integer name's slot. `None`: they are not those of a lock.
    #[inline(always)]
    pub(super) fn from_slot_words([tag, rest]: [u64; 2]) -> Option<Self> {
        let words = u128::from(tag) | u128::from(rest) << 64;
        (tag & 0xff07 == INLINE_LOCK as u64 & 0xff07).then_some(Self::from_bits(words >> 16))
    }

    /// Returns whether the lock is reserved and the next owner has not come in time.
    pub fn lapsed(&self) -> bool {
        self.owner == NO_PARTICIPANT && (os::monotonic_ms() as u16).wrapping_sub(self.since) >= RESERVED_MS
    }

    /// Returns the participant number of the owner. `None`: the lock is reserved.
    pub fn owner(&self) -> Option<u32> {
        (self.owner != NO_PARTICIPANT).then(|| number_of(self.owner))
    }

    /// Returns the same state without a next owner.
    pub fn without_next(self) -> Self {
        LockState { next: NO_PARTICIPANT, token: 0, ..self }
    }
}

/// Returns the participant number in an id.
pub fn number_of(owner: ParticipantId) -> u32 {
    owner & (PARTICIPANTS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::slot::Content;

    #[test]
    fn a_lock_reads_back_from_its_slot() {
        let lock = LockState { owner: 1023 | 77 << 10, next: 5 | 6 << 10, token: 65_535, since: 4 };
        assert_eq!(LockState::from_bytes(&lock.to_bytes()), Some(lock));
        let content = Content::inline(-7, LOCK, &lock.to_bytes());
        assert_eq!([content.rest[1], content.rest[2]], lock.slot_words());
        assert_eq!(LockState::from_slot_words(lock.slot_words()), Some(lock));
        assert_eq!(LockState::from_slot_words([content.rest[1] - 0x100, content.rest[2]]), None);
        assert_eq!((number_of(lock.owner), number_of(lock.next)), (1023, 5));
        assert_eq!(LockState::from_bytes(&[0; 13]), None);
    }

    #[test]
    fn a_reservation_lapses_and_a_lock_that_is_owned_does_not() {
        let now = os::monotonic_ms() as u16;
        let reserved = |ago| LockState { since: now.wrapping_sub(ago), next: 7, ..LockState::of(NO_PARTICIPANT) };
        assert!(!reserved(0).lapsed() && reserved(RESERVED_MS).lapsed() && reserved(30_000).lapsed());
        assert!(!LockState::of(3).lapsed());
    }
}
