//! Which objects stand in a pickle already, by their addresses.
//!
//! Most values have few objects that may be met twice, so the first addresses are compared one by one. From
//! [`FEW`] on there is a hash table. No object of a value that is being pickled can end, so no address is used twice.

use crate::codec::writer::NoMemory;
use crate::fallible;

/// Number of addresses up to which each lookup compares them all.
const FEW: usize = 16;
/// What an error calls the table, if there is no memory for it.
const MEMO: &str = "the memo of a pickle";

/// Addresses, numbered in the order in which they were inserted.
pub(super) struct AddressMemo {
    few: [usize; FEW],
    len: usize,
    /// Open addressing with a power of two of places, of which at most half are used. An address of 0 is a free place.
    table: Vec<(usize, u32)>,
}

impl AddressMemo {
    pub fn new() -> Self {
        AddressMemo { few: [0; FEW], len: 0, table: Vec::new() }
    }

    /// The number of an address. `None` if it was not inserted.
    #[inline(always)]
    pub fn find(&self, address: usize) -> Option<u32> {
        if self.table.is_empty() {
            return self.few[..self.len].iter().position(|&one| one == address).map(|at| at as u32);
        }
        let mask = self.table.len() - 1;
        let mut at = place(address, mask);
        loop {
            match self.table[at] {
                (0, _) => return None,
                (one, number) if one == address => return Some(number),
                _ => at = (at + 1) & mask,
            }
        }
    }

    /// Inserts an address that is not in the memo. It gets the next number.
    #[inline(always)]
    pub fn insert(&mut self, address: usize) -> Result<(), NoMemory> {
        if self.len < FEW {
            self.few[self.len] = address;
        } else {
            self.insert_in_table(address)?;
        }
        self.len += 1;
        Ok(())
    }

    #[inline(never)]
    fn insert_in_table(&mut self, address: usize) -> Result<(), NoMemory> {
        if self.len * 2 >= self.table.len() {
            let old = std::mem::take(&mut self.table);
            let first = old.is_empty();
            self.table = fallible::zeros((old.len() * 2).max(8 * FEW), MEMO).map_err(|_| NoMemory)?;
            let few = self.few.into_iter().zip(0..).filter(|_| first);
            old.into_iter().filter(|(one, _)| *one != 0).chain(few).for_each(|entry| self.store(entry));
        }
        self.store((address, self.len as u32));
        Ok(())
    }

    fn store(&mut self, entry: (usize, u32)) {
        let mask = self.table.len() - 1;
        let mut at = place(entry.0, mask);
        while self.table[at].0 != 0 {
            at = (at + 1) & mask;
        }
        self.table[at] = entry;
    }
}

/// The place at which the search for an address begins. Objects begin mostly at multiples of 16; the multiplication
/// (with the golden ratio of 2^64) spreads neighbours.
#[inline(always)]
fn place(address: usize, mask: usize) -> usize {
    ((address as u64 >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & mask
}
