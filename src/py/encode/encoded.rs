//! An encoded value: the parts that are stored one after the other, so that they need not be joined first.
//!
//! The layout of a record with buffers is in [`crate::codec::buffers`].

use crate::codec::buffers::{self, ALIGN};
use crate::codec::scalar::ShortPickle;
use crate::error::Result;
use crate::fallible;
use crate::py::numpy::PickledArray;
use crate::variables::stored::{Layout, Stored, ValueSource};
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// An encoded value.
pub enum Encoded<'a, 'py> {
    /// A short pickle.
    Short(ShortPickle),
    /// A pickle of one str or bytes: head, the object's own bytes, tail.
    Framed(ShortPickle, &'a [u8], [u8; 1]),
    /// A pickle of containers, written by `codec::writer`.
    Containers(Vec<u8>),
    /// A pickle that the C pickler wrote.
    Pickled(Bound<'py, PyBytes>),
    /// An exact `bytes` that is long enough for a span of its own.
    Bytes(&'a [u8]),
    /// One array, whose memory is stored beside its pickle.
    Array(PickledArray<'a>),
    /// A pickle, and the buffers that are stored beside it.
    Buffers(PickleStream<'py>, Vec<PyBuffer<u8>>),
}

/// A pickle whose buffers are stored beside it.
pub enum PickleStream<'py> {
    /// One of the constant pickles in `codec::buffers`.
    Constant(&'static [u8]),
    /// The pickle of an `array.array`.
    Array(Vec<u8>),
    /// A pickle that the C pickler wrote.
    Pickled(Bound<'py, PyBytes>),
}

/// The parts of a value that is kept until it is stored together with others.
pub enum EncodedParts<'a> {
    /// A value without buffers.
    Whole(WholeParts<'a>),
    /// A record with buffers: its layout, its pickle, and its buffers.
    Beside(buffers::BufferPlan, &'a [u8], Vec<&'a [u8]>),
}

/// The parts of a value without buffers, where the encoder has left them.
#[derive(Clone, Copy)]
pub struct WholeParts<'a>([&'a [u8]; 3], usize);

impl<'a> WholeParts<'a> {
    /// No parts.
    pub const NONE: Self = WholeParts([&[]; 3], 0);

    /// The parts in order.
    pub fn as_slice(&self) -> &[&'a [u8]] {
        &self.0[..self.1]
    }
}

impl EncodedParts<'_> {
    /// The parts in order, and whether they are a record with buffers.
    pub fn slices(&self) -> Result<(Vec<&[u8]>, bool)> {
        Ok(match self {
            EncodedParts::Whole(parts) => {
                (fallible::collect(parts.as_slice().iter().map(|part| Ok(*part)), PARTS)?, false)
            }
            EncodedParts::Beside(plan, stream, slices) => (laid_out(plan, stream, slices)?, true),
        })
    }
}

impl Encoded<'_, '_> {
    /// The parts, for a value that is stored together with others.
    pub fn parts(&self) -> Result<EncodedParts<'_>> {
        match self {
            Encoded::Bytes(bytes) => planned(buffers::BYTES, vec![*bytes]),
            Encoded::Array(array) => planned(&array.stream, vec![array.memory]),
            Encoded::Buffers(stream, held) => planned(stream.as_bytes(), slices_of(held)?),
            whole => Ok(EncodedParts::Whole(whole.whole_parts())),
        }
    }

    /// Where the bytes lie that are copied when the value is stored.
    #[inline(always)]
    pub fn source(&self) -> ValueSource {
        match self {
            Encoded::Array(array) => array.source,
            Encoded::Buffers(..) => ValueSource::Anywhere,
            _ => ValueSource::OwnMemory,
        }
    }

    /// Whether the value has no buffers, so that [`Encoded::whole_parts`] are all of it.
    pub fn is_whole(&self) -> bool {
        matches!(self, Encoded::Short(_) | Encoded::Framed(..) | Encoded::Containers(_) | Encoded::Pickled(_))
    }

    /// The parts of a value without buffers.
    #[inline]
    pub fn whole_parts(&self) -> WholeParts<'_> {
        match self {
            Encoded::Short(short) => WholeParts([short.as_slice(), &[], &[]], 1),
            Encoded::Framed(head, middle, tail) => WholeParts([head.as_slice(), middle, tail], 3),
            Encoded::Containers(bytes) => WholeParts([bytes, &[], &[]], 1),
            Encoded::Pickled(bytes) => WholeParts([bytes.as_bytes(), &[], &[]], 1),
            Encoded::Bytes(_) | Encoded::Array(_) | Encoded::Buffers(..) => WholeParts::NONE,
        }
    }

    /// Calls `store` with the parts.
    #[inline(always)]
    pub fn with<T>(&self, store: impl FnOnce(Stored<'_>) -> Result<T>) -> Result<T> {
        match self {
            Encoded::Short(short) => store(Stored { parts: &[short.as_slice()], layout: Layout::Pickle, expiry: None }),
            Encoded::Framed(head, middle, tail) => {
                store(Stored { parts: &[head.as_slice(), middle, tail], layout: Layout::Pickle, expiry: None })
            }
            Encoded::Containers(bytes) => store(Stored { parts: &[bytes], layout: Layout::Pickle, expiry: None }),
            Encoded::Pickled(bytes) => {
                store(Stored { parts: &[bytes.as_bytes()], layout: Layout::Pickle, expiry: None })
            }
            Encoded::Bytes(bytes) => one_beside(buffers::BYTES, bytes, store),
            Encoded::Array(array) => one_beside(&array.stream, array.memory, store),
            Encoded::Buffers(stream, held) => beside(stream.as_bytes(), slices_of(held)?, store),
        }
    }
}

impl PickleStream<'_> {
    fn as_bytes(&self) -> &[u8] {
        match self {
            PickleStream::Constant(stream) => stream,
            PickleStream::Array(stream) => stream.as_slice(),
            PickleStream::Pickled(bytes) => bytes.as_bytes(),
        }
    }
}

/// The bytes of exported buffers.
fn slices_of(held: &[PyBuffer<u8>]) -> Result<Vec<&[u8]>> {
    // SAFETY: the memory is contiguous and exported as long as `held` lives. Other threads may store into it meanwhile;
    // the kernel copies it once, and what it copies is what is stored.
    let slice = |b: &PyBuffer<u8>| unsafe {
        match b.len_bytes() {
            0 => &[][..],
            len => std::slice::from_raw_parts(b.buf_ptr().cast::<u8>(), len),
        }
    };
    fallible::collect(held.iter().map(|buffer| Ok(slice(buffer))), PARTS)
}

/// The parts of a record with buffers.
fn planned<'a>(stream: &'a [u8], slices: Vec<&'a [u8]>) -> Result<EncodedParts<'a>> {
    let lens = fallible::collect(slices.iter().map(|slice| Ok(slice.len())), PARTS)?;
    Ok(EncodedParts::Beside(buffers::plan(stream.len(), &lens)?, stream, slices))
}

/// The slices of a record with buffers, in the order of its layout: head, pickle, and each buffer after its gap.
fn laid_out<'a>(plan: &'a buffers::BufferPlan, stream: &'a [u8], slices: &[&'a [u8]]) -> Result<Vec<&'a [u8]>> {
    let mut parts: Vec<&[u8]> = fallible::with_room(2 + 2 * slices.len(), PARTS)?;
    parts.extend([plan.head.as_slice(), stream]);
    for (gap, slice) in plan.gaps.iter().zip(slices) {
        parts.extend([&ZEROS[..*gap], slice]);
    }
    Ok(parts)
}

/// The name of the parts in the error for a lack of memory.
const PARTS: &str = "the parts of a value";

/// The bytes of the gaps between buffers.
static ZEROS: [u8; ALIGN as usize] = [0; ALIGN as usize];

/// Calls `store` with the parts of a record with one buffer.
#[inline(never)]
fn one_beside<T>(stream: &[u8], buffer: &[u8], store: impl FnOnce(Stored<'_>) -> Result<T>) -> Result<T> {
    let (head, gap) = buffers::plan_one(stream.len(), buffer.len());
    store(Stored { parts: &[&head, stream, &ZEROS[..gap], buffer], layout: Layout::Buffers, expiry: None })
}

/// Calls `store` with the parts of a record with buffers.
#[cold]
fn beside<T>(stream: &[u8], slices: Vec<&[u8]>, store: impl FnOnce(Stored<'_>) -> Result<T>) -> Result<T> {
    let parts = planned(stream, slices)?;
    store(Stored { parts: &parts.slices()?.0, layout: Layout::Buffers, expiry: None })
}
