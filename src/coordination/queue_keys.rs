//! The keys of a queue's items, and the ids of those who hold items.
//!
//! The bytes are "Queue" in docs/format.md.

use crate::format::{ITEM_KEY, PARTICIPANTS};
use crate::key::{Index, Name, NameOf};

/// A participant number together with its generation. No other participant ever has the same.
pub type HolderId = u64;

/// The id of no participant.
pub const NOBODY: HolderId = u64::MAX;

/// Returns the participant number in an id.
pub fn holder_number(holder: HolderId) -> u32 {
    (holder % u64::from(PARTICIPANTS)) as u32
}

/// Makes the id of a participant.
pub fn holder_id(number: u32, generation: u64) -> HolderId {
    // A generation grows by one with each claim of a number, so it stays far below 2^54.
    (generation << 10) & !(1 << 63) | u64::from(number)
}

/// Private to the process: the key of an item: sixteen characters below U+0080.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemKey([u8; ITEM_KEY]);

impl ItemKey {
    /// Makes the key of an item: the number of its queue, then its ticket, in characters of seven bits each.
    #[inline]
    pub fn new(queue: u64, ticket: u64) -> Self {
        let mut key = [0; ITEM_KEY];
        for (to, number) in key.chunks_exact_mut(ITEM_KEY / 2).zip([queue, ticket]) {
            // Seven bits of the number in each byte, the highest first.
            for (place, byte) in to.iter_mut().enumerate() {
                *byte = (number >> (49 - 7 * place) & 0x7f) as u8;
            }
        }
        ItemKey(key)
    }

    /// Returns the characters.
    #[inline]
    pub fn bytes(&self) -> &[u8; ITEM_KEY] {
        &self.0
    }

    /// Returns the queue and the ticket that a key says. `None`: it is no item's key.
    pub fn parse(key: &[u8]) -> Option<(u64, u64)> {
        let halves = key.split_at_checked(ITEM_KEY / 2).filter(|_| key.len() == ITEM_KEY)?;
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 7 | u64::from(byte & 0x7f));
        Some((number(halves.0), number(halves.1)))
    }

    /// Returns the item's name.
    #[inline]
    pub fn name(&self) -> Name<'_> {
        // All characters are below U+0080, so this is UTF-8.
        let text = std::str::from_utf8(&self.0).unwrap_or_default();
        Name { index: Index::Text(text), of: NameOf::Item }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::VERSION_MAX;

    #[test]
    fn an_items_key_tells_queue_and_ticket() {
        for (queue, ticket) in [(1, 0), (VERSION_MAX - 1, VERSION_MAX - 1), (127, 128), (1 << 49, (1 << 49) - 1)] {
            let key = ItemKey::new(queue, ticket);
            let Index::Text(text) = key.name().index else { panic!("text") };
            assert_eq!(ItemKey::parse(text.as_bytes()), Some((queue, ticket)));
        }
        assert_eq!(ItemKey::parse(&[0; 15]), None);
        assert_eq!((holder_number(holder_id(1_023, 1 << 40)), holder_number(holder_id(5, 9))), (1_023, 5));
    }
}
