//! Any bytes as a value: named, read as a scalar or not, taken apart, without running any of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shmvar::codec::opcode::{Op, OpReader};
use shmvar::codec::scalar::{self, Scalar};
use shmvar::codec::{buffers, kind};

fuzz_target!(|data: &[u8]| {
    let mut reader = OpReader::new(data);
    let mut at = None;
    while let Ok(op) = reader.next_op() {
        assert!(at.is_none_or(|before| before < reader.op_at()), "the reader does not go on");
        at = Some(reader.op_at());
        if op == Op::Stop {
            break;
        }
    }
    let name = kind::type_name(data).unwrap();
    if let Some(scalar) = scalar::decode(data) {
        let expected = match scalar {
            Scalar::Int(_) => "int",
            Scalar::Str(_) => "str",
            Scalar::Float(_) => "float",
            Scalar::Bytes(_) => "bytes",
            Scalar::None => "NoneType",
            Scalar::Bool(_) => "bool",
        };
        // A number of the memo that no pickler writes is passed over by the one and refused by the other.
        assert!(name == expected || (name == kind::DAMAGED && data[data.len() - 3] == b'q'), "{name}, not {expected}");
    }
    let in_band = buffers::in_band(data, &[b"one", b"", b"three"]).unwrap();
    if let (Some(stream), true) = (in_band, name != kind::DAMAGED) {
        assert_ne!(kind::type_name(&stream).unwrap(), kind::DAMAGED, "a stream with its buffers within");
    }
    if let Some((total, head)) = data.split_first_chunk() {
        let total = u64::from_le_bytes(*total);
        if let Some(parsed) = buffers::parse(head, total).unwrap() {
            let end = |(start, len): (u64, u64)| start.checked_add(len).filter(|end| *end <= total).unwrap();
            let mut last = end(parsed.pickle);
            for buffer in parsed.buffers {
                assert!(buffer.0 >= last && buffer.0 % buffers::ALIGN == 0);
                last = end(buffer);
            }
        }
    }
});
