//! The rest of a pickle that is being read.

use super::stop::Stop;

/// The rest of a pickle.
pub(super) struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    #[inline(always)]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let (array, rest) = self.0.split_first_chunk::<N>().ok_or(Stop::NotOurs)?;
        self.0 = rest;
        Ok(*array)
    }

    #[inline(always)]
    pub fn byte(&mut self) -> Result<u8, Stop> {
        Ok(self.array::<1>()?[0])
    }

    #[inline(always)]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Stop> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Stop::NotOurs)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Content after a length of one byte.
    #[inline(always)]
    pub fn counted8(&mut self) -> Result<&'a [u8], Stop> {
        let len = self.byte()?;
        self.take(len.into())
    }

    /// Content after a length of four bytes.
    #[inline(always)]
    pub fn counted32(&mut self) -> Result<&'a [u8], Stop> {
        let len = u32::from_le_bytes(self.array()?);
        self.take(len as usize)
    }

    /// Content after a length of eight bytes.
    #[inline(always)]
    pub fn counted64(&mut self) -> Result<&'a [u8], Stop> {
        let len = u64::from_le_bytes(self.array()?);
        self.take(usize::try_from(len).map_err(|_| Stop::NotOurs)?)
    }

    /// The length of a frame. As in CPython's C unpickler, the frame must fit into the bytes that are left, and is not
    /// looked at any further.
    pub fn frame(&mut self) -> Result<(), Stop> {
        let len = u64::from_le_bytes(self.array()?);
        if len <= self.0.len() as u64 { Ok(()) } else { Err(Stop::NotOurs) }
    }
}
