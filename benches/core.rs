//! Instructions of the parts that every call consists of: the slot's seqlock, the table, the slabs, the codec of scalars
//! and containers.
//!
//! `make bench-core` runs them under valgrind and prints each beside the run before: a count is the same however busy the
//! machine is, so one part in a hundred shows. Every function does its work a thousand times, because a single time would
//! be lost beside the call of the function; what it prepares is not counted.

use gungraun::{library_benchmark, library_benchmark_group, main};
use prepared::{Fresh, TIMES, put, records, scattered, slot};
use shmvar::codec::scalar;
use shmvar::codec::writer::PickleWriter;
use shmvar::format::Slot;
use shmvar::sync::slot::{Content, Seqlock};
use shmvar::{Blocking, Index};
use std::hint::black_box;

// --- slot

#[library_benchmark]
#[bench::inline(slot())]
fn slot_read(slot: Box<Slot>) -> Box<Slot> {
    for _ in 0..TIMES {
        black_box(black_box(&slot).copy());
    }
    slot
}

#[library_benchmark]
#[bench::inline(slot())]
fn slot_write(slot: Box<Slot>) -> Box<Slot> {
    for turn in 0..TIMES {
        let content = Content::inline(7, 0, scalar::int(7).as_slice()).with_version(2 * turn as u64);
        black_box(&slot).write(black_box(&content));
    }
    slot
}

// --- table

#[library_benchmark]
#[bench::of_1_000(Fresh::with_ints(1000))]
#[bench::of_100_000(Fresh::with_ints(100_000))]
fn table_hit(fresh: Fresh) -> Fresh {
    let count = fresh.0.len().unwrap() as i64;
    for index in scattered(count) {
        black_box(fresh.0.get_pickle(&Index::from(index), &Blocking).unwrap().unwrap());
    }
    fresh
}

#[library_benchmark]
#[bench::of_1_000(Fresh::with_ints(1000))]
#[bench::of_100_000(Fresh::with_ints(100_000))]
fn table_miss(fresh: Fresh) -> Fresh {
    let count = fresh.0.len().unwrap() as i64;
    for index in scattered(count) {
        assert!(fresh.0.get_pickle(&Index::from(index + (1 << 40)), &Blocking).unwrap().is_none());
    }
    fresh
}

#[library_benchmark]
#[bench::into_none(Fresh::with_ints(0))]
#[bench::into_100_000(Fresh::with_ints(100_000))]
fn table_insert(fresh: Fresh) -> Fresh {
    for index in 0..TIMES {
        put(&fresh.0, index + (1 << 40), scalar::int(index).as_slice());
    }
    fresh
}

#[library_benchmark]
#[bench::of_100_000(Fresh::with_ints(100_000))]
fn table_overwrite(fresh: Fresh) -> Fresh {
    for index in scattered(100_000) {
        put(&fresh.0, index, scalar::int(index).as_slice());
    }
    fresh
}

// --- slabs

#[library_benchmark]
#[bench::of_40_bytes(Fresh::with_ints(0), 40)]
#[bench::of_1_000_bytes(Fresh::with_ints(0), 1000)]
fn slab_allocate(fresh: Fresh, len: usize) -> Fresh {
    let value = vec![7; len];
    for index in 0..TIMES {
        fresh.0.put_bytes(index, &value).unwrap();
    }
    fresh
}

#[library_benchmark]
#[bench::of_40_bytes(records(40))]
#[bench::of_1_000_bytes(records(1000))]
fn slab_free(fresh: Fresh) -> Fresh {
    for index in 0..TIMES {
        assert!(fresh.0.remove(index).unwrap());
    }
    fresh
}

// A block is taken and another one freed.
#[library_benchmark]
#[bench::of_40_bytes(records(40))]
fn slab_replace(fresh: Fresh) -> Fresh {
    for index in 0..TIMES {
        fresh.0.put_bytes(index, &[8; 40]).unwrap();
    }
    fresh
}

// --- codec

#[library_benchmark]
fn codec_encode() {
    for number in 0..TIMES {
        black_box(scalar::int(black_box(number * 70_001)));
        black_box(scalar::float(black_box(0.5)));
        black_box(scalar::constant(black_box(Some(true))));
        black_box(scalar::str_frame(black_box(40)));
        black_box(scalar::bytes_frame(black_box(40)));
    }
}

fn pickles() -> Vec<Vec<u8>> {
    let (head, tail) = scalar::str_frame(40);
    let text = [head.as_slice(), &[b'x'; 40], &tail].concat();
    vec![scalar::int(70_001).as_slice().to_vec(), scalar::float(0.5).as_slice().to_vec(), text]
}

#[library_benchmark]
#[bench::int_float_str(pickles())]
fn codec_decode(pickles: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    for _ in 0..TIMES {
        for pickle in &pickles {
            black_box(scalar::decode(black_box(pickle)).unwrap());
        }
    }
    pickles
}

// The pickle of {"id": 1, "name": "x", "tags": ["a", "b"], "score": 0.5}.
#[library_benchmark]
fn codec_containers() {
    for _ in 0..TIMES {
        let mut writer = PickleWriter::new().unwrap();
        writer.empty_dict().unwrap();
        writer.mark().unwrap();
        for (key, value) in [("id", ""), ("name", "x"), ("tags", "ab"), ("score", "")] {
            writer.str(black_box(key).as_bytes()).unwrap();
            writer.memoize().unwrap();
            match key {
                "id" => writer.int(black_box(1)).unwrap(),
                "score" => writer.float(black_box(0.5)).unwrap(),
                "name" => writer.str(black_box(value).as_bytes()).unwrap(),
                _ => {
                    writer.mark().unwrap();
                    writer.str(black_box(&value[..1]).as_bytes()).unwrap();
                    writer.str(black_box(&value[1..]).as_bytes()).unwrap();
                    writer.list().unwrap();
                }
            }
        }
        writer.set_items().unwrap();
        black_box(writer.finish().unwrap());
    }
}

library_benchmark_group!(name = slots, benchmarks = [slot_read, slot_write]);
library_benchmark_group!(name = table, benchmarks = [table_hit, table_miss, table_insert, table_overwrite]);
library_benchmark_group!(name = slabs, benchmarks = [slab_allocate, slab_free, slab_replace]);
library_benchmark_group!(name = codec, benchmarks = [codec_encode, codec_decode, codec_containers]);
main!(library_benchmark_groups = [slots, table, slabs, codec]);
