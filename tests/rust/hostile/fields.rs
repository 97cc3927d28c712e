//! Every field of an image, and the damage that is stored into it.

use crate::image::{DEAD, Image, place};
use shmvar::format::{CLASSES, GRANULE, SpanState, ZONE, at};

/// A word of the format. A field of 4 bytes stands for the word in which it lies.
#[derive(Clone, Debug)]
pub struct Field {
    pub part: &'static str,
    pub name: String,
    pub offset: u64,
}

/// All fields of an image, part by part.
pub fn of(image: &Image) -> Vec<Field> {
    let mut fields = Vec::new();
    let mut add = |part, name: &str, offset: u64, words: u64| {
        fields.extend((0..words).map(|i| Field { part, name: format!("{name}+{}", i * 8), offset: offset + i * 8 }));
    };
    add("identity", "identity", 0, 31);
    add("state", "lock", place::LOCK, 1);
    add("state", "state", place::ROOT, 6);
    add("state", "version", place::VERSION, 4);
    add("doomed", "doomed", place::DOOMED, 2);
    add("state", "evicted", place::DOOMED_AT + 8, 2);
    add("batch", "many", place::MANY, 4);
    add("intent", "intent", at::INTENT, 38);
    add("set", "lengths and many", at::INTENT + 16 * 8, 4);
    add("set", "set", place::SET, 15);
    add("set", "blocks of a set", place::SET_BLOCKS, 2);
    add("wake words", "wake word 0", at::WAKE, 2);
    if let Some(granule) = image.list_granule() {
        add("batch", "list", image.geometry.granule_at(granule), 15);
    }
    for number in 0..3 {
        add("participants", &format!("participant {number}"), at::PARTICIPANTS + number * 64, 7);
    }
    // Of fields that are repeated: those that are in use, and some that are not.
    let telling = |number: &u64, offset: u64| image.word(offset) != 0 || number % 16 == 1;
    for kind in (0..128).filter(|kind| telling(kind, at::SUMMARY + kind * 8)) {
        add("summary", &format!("summary of kind {kind}"), at::SUMMARY + kind * 8, 1);
    }
    for (root, name) in [(place::ROOT, "variables"), (place::NAMES, "names"), (place::DOOMED, "doomed")] {
        if image.word(root) == 0 {
            continue;
        }
        let part = if root == place::DOOMED { "doomed" } else { "table" };
        let words = image.words(root);
        // One more than it has.
        add(part, &format!("directory of {name}"), words[0], words.len() as u64 + 1);
        for (number, (base, _)) in image.leaves(root).into_iter().enumerate() {
            add(part, &format!("leaf {number} of {name}"), base, 4);
        }
    }
    let zone = image.geometry.zone_at(0);
    let spans = image.spans();
    for granule in [1, 2, ZONE - 1] {
        add("zone", &format!("entry {granule}"), image.entry_at(granule), 1);
    }
    for (granule, entry) in &spans {
        add("zone", &format!("entry {granule} {entry:?}"), image.entry_at(*granule), 1);
        if entry.len() > 1 {
            add("zone", &format!("entry inside of {granule}"), image.entry_at(granule + entry.len() - 1), 1);
        }
        if entry.state() == SpanState::Slab {
            add("slab", &format!("slab head {granule}"), image.geometry.granule_at(*granule), 2);
        }
    }
    // Up to the last span, and the last granule.
    let used = spans.last().map_or(0, |(granule, entry)| granule + entry.len());
    for (name, bitmap) in
        [("free", place::FREE), ("present", place::PRESENT), ("sticky", place::STICKY), ("fresh", place::FRESH)]
    {
        add("zone", &format!("{name} bits"), zone + bitmap, used / 64 + 1);
        add("zone", &format!("last {name} bits"), zone + bitmap + (ZONE / 64 - 1) * 8, 1);
    }
    let rooms = zone + place::ROOMS;
    for class in (0..CLASSES.len() as u64).filter(|class| telling(class, rooms + class * 128)) {
        add("zone", &format!("bits of class {class}"), rooms + class * 128, 1);
    }
    let mut ordinary = 0;
    for slot in image.slots() {
        let content = image.content(slot);
        let index = content.rest[0] as i64;
        if content.is_entry() && content.is_lock() {
            add("lock", &format!("lock of {index}"), slot, 4);
            if content.is_text() {
                add("lock", "record of a lock", image.record(&content), 3);
            }
            continue;
        }
        if content.is_entry() && (content.is_queue() || content.is_item()) {
            let what = if content.is_queue() { "queue" } else { "item" };
            add("queue", &format!("slot of a {what}, {slot}"), slot, 4);
            if content.block() < 512 {
                // The number of the queue and its two heads, and the first entry; or the instant and the key of an item.
                add("queue", &format!("record of a {what}, {slot}"), image.record(&content), 14);
            }
            continue;
        }
        if !content.is_variable() || (1002..2000).contains(&index) {
            // A few of those that are all alike.
            ordinary += 1;
            if ordinary % 150 == 0 {
                add("slot", &format!("slot {slot}"), slot, 4);
            }
            continue;
        }
        add("slot", &format!("slot of {index}"), slot, 4);
        if content.record_len() > 14 && content.granule() > 0 && content.block() < 512 {
            add("record", &format!("record of {index}"), image.record(&content), 8);
        }
    }
    for number in [0, DEAD] {
        add("pins", &format!("pins {number}"), image.geometry.pins + number * image.geometry.pin_stride, 1);
    }
    fields
}

/// What a field becomes: 0, 1, all ones, the sign bit alone, its own offset, another field's value, one more, one less; and
/// each of its bytes all ones, or another value.
pub fn values(image: &Image, field: &Field, other: u64) -> Vec<u64> {
    let now = image.word(field.offset);
    let own_granule = field.offset.saturating_sub(image.geometry.arena) / GRANULE;
    let mut values = vec![0, 1, u64::MAX, 1 << 63, 1 << 31, u64::from(u32::MAX), (1 << 63) - 1];
    values.extend([field.offset, own_granule << 32 | now & 0xffff_ffff, own_granule << 16, other]);
    values.extend([now.wrapping_add(1), now.wrapping_sub(1), now ^ 0x10, now.swap_bytes()]);
    for byte in 0..8 {
        values.extend([now | 0xff << (byte * 8), now ^ 1 << (byte * 8 + 4)]);
    }
    values.sort_unstable();
    values.dedup();
    values.retain(|value| *value != now);
    values
}

/// One to sixty-four words or bytes of an image, most of them where structures are.
pub fn at_random(image: &Image, fields: &[Field], chance: &mut Chance) -> Vec<(u64, u64)> {
    let most = 1 << chance.below(7);
    let count = 1 + chance.below(most);
    let mut edits: Vec<(u64, u64)> = Vec::new();
    while edits.len() < count {
        let mut field = &fields[chance.below(fields.len())];
        // Seldom: calls wait for a lock that a living process seems to hold, and refuse a damaged identity.
        while (field.offset == place::LOCK || field.part == "identity") && chance.below(16) != 0 {
            field = &fields[chance.below(fields.len())];
        }
        // Words around it, too, not only what is in use.
        let offset = if chance.below(8) == 0 { (field.offset + chance.next() % 4_096) & !7 } else { field.offset };
        let now = edits.iter().rfind(|edit| edit.0 == offset).map_or_else(|| image.word(offset), |edit| edit.1);
        edits.push((offset, value_at_random(image, fields, now, chance)));
    }
    edits
}

/// What a word may become.
pub fn value_at_random(image: &Image, fields: &[Field], now: u64, chance: &mut Chance) -> u64 {
    let byte = 8 * chance.below(8);
    match chance.below(10) {
        0 => [0, 1, u64::MAX, 1 << 63, 1 << 31, 1 << 32, (1 << 63) - 1][chance.below(7)],
        1 => image.word(fields[chance.below(fields.len())].offset),
        2 => chance.next(),
        3 => chance.next() >> chance.below(64),
        4 => now.wrapping_add(chance.next() % 64).wrapping_sub(32),
        5 | 6 => now ^ 1 << chance.below(64),
        _ => now & !(0xff << byte) | (chance.next() & 0xff) << byte,
    }
}

/// A source of numbers that are the same for the same seed.
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}
