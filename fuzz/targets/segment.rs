//! Edits of a populated segment, then calls: data or a typed error, and no harm to a sound segment afterwards.
//!
//! The input: a byte of choices, a number of edits, 12 bytes for each (which field, how it is changed, a value), then a byte or
//! two for each call. Image, fields and the calls on the whole are those of `tests/rust/hostile`.
#![no_main]

#[path = "../../tests/rust/hostile/calls.rs"]
#[allow(dead_code)]
mod calls;
#[path = "../../tests/rust/hostile/fields.rs"]
#[allow(dead_code)]
mod fields;
#[path = "../../tests/rust/hostile/image.rs"]
#[allow(dead_code)]
mod image;

use calls::{Calls, Tally};
use fields::Field;
use image::{INTS, Image, LOCKS, SPAN, TEXTS, pickle, place};
use libfuzzer_sys::fuzz_target;
use shmvar::{AsCoordination, AsVariables, Condition, Index, Key, Number, Segment, TableOf};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The images, and the fields of all.
struct Template {
    quiet: Image,
    pending: Image,
    batch: Image,
    doomed: Image,
    fields: Vec<Field>,
}

/// Memory that a damaged segment may come to take.
const GROWTH: u64 = 256 << 20;

fn template() -> &'static Template {
    static TEMPLATE: OnceLock<Template> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        tidy();
        let quiet = Image::take(&Key::text(&format!("fuzz-{}", std::process::id())).unwrap(), 40);
        let (pending, batch, doomed) = (quiet.pending(), quiet.batch(), quiet.doomed());
        // It has those of the others, too.
        let mut fields = fields::of(&doomed);
        fields.retain(|field| field.offset != place::LOCK);
        Template { quiet, pending, batch, doomed, fields }
    })
}

/// Removes what runs left that ended with a finding.
fn tidy() {
    for entry in std::fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix("shmvar.s.fuzz-");
        if pid.is_some_and(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn edit(template: &Template, image: &Image, bytes: &[u8; 12]) -> (u64, u64) {
    let [a, b, how, detail, value @ ..] = *bytes;
    let field = &template.fields[usize::from(u16::from_le_bytes([a, b])) % template.fields.len()];
    let (now, value) = (image.word(field.offset), u64::from_le_bytes(value));
    let byte = u64::from(detail % 8) * 8;
    let other = &template.fields[usize::from(detail) % template.fields.len()];
    let new = match how % 8 {
        0 => value,
        1 => now.wrapping_add(value % 64),
        2 => now.wrapping_sub(value % 64),
        3 => now ^ 1 << (detail % 64),
        4 => now & !(0xff << byte) | (value & 0xff) << byte,
        5 => image.word(other.offset),
        6 => other.offset,
        _ => u64::MAX >> (detail % 64),
    };
    let offset = if how & 0x80 == 0 { field.offset } else { field.offset + u64::from(detail) * 8 };
    (offset, new)
}

fn index(byte: u8) -> Index<'static> {
    let known = INTS.len() + TEXTS.len();
    match usize::from(byte % 32) {
        number if number < INTS.len() => Index::Int(INTS[number]),
        number if number < known => Index::Text(TEXTS[number - INTS.len()]),
        number => Index::Int(number as i64 + 100),
    }
}

fn call(calls: &mut Calls<'_>, writer: &Segment, reader: &Segment, op: u8, arg: u8) {
    let segment = if op & 0x80 == 0 { writer } else { reader };
    let (Ok(att), index) = (segment.attachment(), index(arg)) else { return };
    // Each call has a wait policy of its own, which is asked only where the call waits.
    let name = LOCKS[usize::from(arg) % LOCKS.len()];
    match op % 28 {
        0 => {
            calls.saw("get", segment.get_pickle(&index, &calls.brief));
        }
        1 => {
            calls.saw("has", att.variables().has(&index, &calls.brief));
        }
        2 => {
            calls.saw("stat", segment.stat_with(&index, &calls.brief));
        }
        3 => {
            calls.saw("indexes", att.variables().indexes(&calls.brief));
        }
        4 => {
            calls.saw("info", segment.info_with(&calls.brief));
        }
        5 => {
            calls.saw("len", segment.len_with(&calls.brief));
        }
        16 => {
            calls.saw("version", att.variables().version(&index, &calls.brief));
        }
        17 => {
            calls.saw("wait", att.coordination().wait(&index, None, Some(Duration::from_micros(50)), &calls.brief));
        }
        18 => {
            calls.saw("is locked", att.coordination().is_locked(&name, &calls.brief));
        }
        19 => {
            calls.saw("locks", att.coordination().locks(&calls.brief));
        }
        20 | 21 => {
            let all = [index, Index::Int(1), Index::Int(4), Index::Int(8), Index::Text("text")];
            calls.saw(
                "get many",
                att.variables().get_many(&all[..1 + usize::from(arg >> 5) % 5], &calls.brief).map(drop),
            );
        }
        _ if op & 0x80 != 0 => calls.read(reader),
        6..=8 => {
            let len = [3, 40, 300, 3_000, 21_700, 24_000, 70_000, 300_000][usize::from(arg >> 5)];
            let value = pickle(len);
            calls.saw("put", writer.put_pickle(&index, &[&value], Condition::Always, &calls.brief));
        }
        9 | 10 => {
            calls.saw("remove", att.variables().remove(&index, Condition::Always, &calls.brief));
        }
        11 => {
            calls.saw("trim", writer.trim(&calls.brief));
        }
        12 => {
            calls.saw("check", segment.check_with(&calls.brief));
        }
        13 => {
            calls.saw("clear", att.variables().clear(&calls.brief));
        }
        14 => {
            let of = if arg & 1 == 0 { TableOf::Variables } else { TableOf::Names };
            calls.grow(writer, u64::from(arg >> 5) << 61, of, if arg & 2 == 0 { 1 } else { u64::from(arg) << 4 });
        }
        22 => {
            calls.saw("add", att.variables().add(&index, Number::Int(i64::from(arg)), None, &calls.brief));
        }
        23 => {
            let ttl = Duration::from_nanos(if arg & 1 == 0 { 1 } else { 1 << 40 });
            calls.saw("put for a while", writer.put_for(index, &arg, ttl));
        }
        15 if arg & 32 == 32 => {
            let ttl = [None, Some(Duration::from_nanos(1)), Some(Duration::from_nanos(1 << 40))][usize::from(arg >> 6) % 3];
            calls.saw("expire", att.variables().expire(&index, ttl, &calls.brief));
        }
        24 | 25 => {
            let values = [pickle(3), pickle(300), pickle(SPAN)];
            let all = [
                (index, &*values[usize::from(arg >> 5) % 3]),
                (Index::Int(41), &values[0]),
                (Index::Int(2), &values[2]),
            ];
            calls.saw("put many", writer.put_many_pickles(&all[..1 + usize::from(arg >> 6) % 3]));
        }
        26 | 27 => {
            let who = writer.thread();
            let Ok(att) = writer.attachment() else { return };
            let taken = att.coordination().acquire_lock(&name, who, Some(Duration::from_millis(1)), &calls.brief);
            if calls.saw("lock", taken) == Some(true) && op & 1 == 0 {
                calls.saw("let go", att.coordination().release_lock(&name, who, &calls.brief));
            }
        }
        _ => {
            calls.saw("resize", writer.resize(u64::from(arg) << 16 | 1, &calls.brief));
        }
    }
}

fuzz_target!(|data: &[u8]| {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let template = template();
    let [choice, count, rest @ ..] = data else { return };
    let image = match (choice & 1, choice & 8) {
        (0, 0) => &template.quiet,
        (0, _) => &template.batch,
        (_, 0) => &template.pending,
        _ => &template.doomed,
    };
    let (edits, ops) = rest.split_at(rest.len().min(usize::from(count % 64) * 12));
    let edits: Vec<_> = edits.as_chunks().0.iter().map(|bytes| edit(template, image, bytes)).collect();
    let late = choice & 2 == 0;
    let mut damaged = image.clone();
    if !late {
        edits.iter().for_each(|(offset, value)| damaged.set(*offset, *value));
        if choice & 4 == 0 {
            damaged.sign();
        }
    }
    let file = damaged.lay();
    let mut tally = Tally::new();
    let mut calls = Calls::new(&mut tally);
    if let (Some(writer), Some(reader)) = (calls.attach(image, false), calls.attach(image, true)) {
        if late {
            edits.iter().for_each(|(offset, value)| file.write_all_at(&value.to_le_bytes(), *offset).unwrap());
        }
        for op in ops.as_chunks().0.iter().take(64) {
            let [op, arg] = *op;
            call(&mut calls, &writer, &reader, op, arg);
        }
        drop((writer, reader));
        if let Some(again) = calls.attach(image, false) {
            calls.destroy(&again);
        }
    }
    let grown = (file.metadata().unwrap().blocks() * 512).saturating_sub(image.bytes());
    let _ = std::fs::remove_file(format!("/dev/shm/{}", image.name));
    assert!(grown < GROWTH, "the segment came to take {grown} bytes more");
    assert!(calls.wrong.is_empty(), "{:?}", calls.wrong);
    // What the process knows of its own is not damaged by what it read.
    if RUNS.fetch_add(1, Ordering::Relaxed) % 32 == 0 {
        let _file = template.quiet.lay();
        let sound = calls.attach(&template.quiet, false).expect("a sound segment");
        sound.check().unwrap();
        assert_eq!(sound.get_bytes(5).unwrap().map(|bytes| bytes.len()), Some(SPAN));
        sound.destroy().unwrap();
    }
});
