//! Impossible tables, leaves, slots and bitmaps, made on purpose: random edits seldom produce them.

use crate::image::{Image, place};
use shmvar::format::{DEPTH_MAX, LEAF_MAX, LeafWord, Root, SpanState, ZONE, at};

/// One kind of damage: its name, and what is stored where.
pub type Shape = (String, Vec<(u64, u64)>);

/// A granule of each kind, with a name.
fn places(image: &Image) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    for state in [
        SpanState::Directory,
        SpanState::Leaf,
        SpanState::Slab,
        SpanState::Live,
        SpanState::Filling,
        SpanState::Retired,
    ] {
        let mut of_this = image.spans().into_iter().filter(|(_, entry)| entry.state() == state);
        let first = of_this.next();
        for (granule, entry) in first.into_iter().chain(of_this.next_back()) {
            all.push((format!("{state:?} {granule}"), granule));
            if entry.len() > 1 {
                all.push((format!("the inside of {state:?} {granule}"), granule + 1));
            }
        }
    }
    let free = (0..ZONE).find(|granule| image.bit(place::FREE, *granule)).unwrap();
    let reserve = image.geometry.granules;
    for (name, granule) in [("a free granule", free), ("the last granule", ZONE - 1), ("another zone", ZONE)] {
        all.push((name.into(), granule));
    }
    all.extend([("the end".into(), reserve), ("beyond the end".into(), u64::from(u32::MAX))]);
    all
}

/// Words of directories.
fn words(image: &Image, root: u64, name: &str, shapes: &mut Vec<Shape>) {
    let at = image.words(root);
    let table = Root(image.word(root));
    for (number, offset) in at.iter().enumerate() {
        let now = LeafWord(image.word(*offset));
        let mut one = |what: String, word: LeafWord| {
            shapes.push((format!("{name}, word {number}: {what}"), vec![(*offset, word.0)]));
        };
        // The leaf of another word, so that two ranges of hashes share it.
        for (other, offset) in at.iter().enumerate().filter(|(_, offset)| image.word(**offset) != now.0) {
            one(format!("the leaf of word {other}"), LeafWord(image.word(*offset)));
        }
        for (what, granule) in places(image) {
            for size in [1, now.size(), LEAF_MAX] {
                one(format!("{what}, {size} granules"), LeafWord::new(granule, now.depth(), size, now.generation()));
            }
        }
        for size in [0, now.size() + 1, now.size().saturating_sub(1), LEAF_MAX, LEAF_MAX + 1, 128, 255] {
            one(format!("{size} granules"), LeafWord::new(now.granule(), now.depth(), size, now.generation()));
        }
        for depth in [0, 1, 2, 3, DEPTH_MAX, DEPTH_MAX + 1, 31, 32, 62, 63] {
            one(format!("depth {depth}"), LeafWord::new(now.granule(), depth, now.size(), now.generation()));
        }
        for generation in [0, now.generation() + 1, u64::MAX] {
            one(format!("generation {generation}"), LeafWord::new(now.granule(), now.depth(), now.size(), generation));
        }
    }
    for (what, word) in [
        ("all words the first leaf", image.word(at[0])),
        ("all words the last leaf", image.word(at[at.len() - 1])),
        ("all words the directory", LeafWord::new(table.granule(), 0, 1, 1).0),
        ("all words nothing", 0),
        ("all words of depth 63", LeafWord(image.word(at[0])).0 | 63 << 26),
    ] {
        shapes.push((format!("{name}: {what}"), at.iter().map(|offset| (*offset, word)).collect()));
    }
}

/// Roots: the words that name tables.
fn roots(image: &Image, shapes: &mut Vec<Shape>) {
    let (root, names) = (Root(image.word(place::ROOT)), Root(image.word(place::NAMES)));
    for (name, offset, now) in [("root", place::ROOT, root), ("names", place::NAMES, names)] {
        for (what, granule) in places(image) {
            for depth in [0, now.depth(), 9, 10] {
                let forged = Root::new(granule, depth, now.generation());
                shapes.push((format!("{name}: {what}, depth {depth}"), vec![(offset, forged.0)]));
            }
        }
        for depth in [0, 1, 3, 9, 10, 16, 17, DEPTH_MAX, DEPTH_MAX + 1, 63, 64, 255] {
            let forged = Root::new(now.granule(), depth, now.generation());
            shapes.push((format!("{name}: depth {depth}"), vec![(offset, forged.0)]));
        }
    }
    shapes.push(("the names are the variables".into(), vec![(place::NAMES, root.0)]));
    shapes.push(("the variables are the names".into(), vec![(place::ROOT, names.0)]));
    shapes.push(("names and variables changed places".into(), vec![(place::NAMES, root.0), (place::ROOT, names.0)]));
    // Two directories name the same leaves.
    let (ours, theirs) = (image.words(place::ROOT)[0], image.words(place::NAMES)[0]);
    shapes.push(("a leaf in both tables".into(), vec![(theirs, image.word(ours))]));
    shapes.push(("a leaf in both tables, of the names".into(), vec![(ours, image.word(theirs))]));
}

/// The fields of a doomed table.
fn doomed(image: &Image, shapes: &mut Vec<Shape>) {
    let (root, names, now) = (image.word(place::ROOT), image.word(place::NAMES), image.word(place::DOOMED));
    let mut roots = vec![("the live table".into(), root), ("the names".into(), names), ("nothing".into(), 0)];
    roots.extend([("everything".into(), u64::MAX), ("one".into(), 1), ("itself".into(), now)]);
    for (what, granule) in places(image) {
        for depth in [0, 2, 9] {
            roots.push((format!("{what}, depth {depth}"), Root::new(granule, depth, 1).0));
        }
    }
    for depth in [DEPTH_MAX, DEPTH_MAX + 1, 63, 64, 255] {
        roots.push((format!("depth {depth}"), Root::new(Root(root).granule(), depth, 1).0));
    }
    for (what, doomed) in &roots {
        shapes.push((format!("doomed: {what}"), vec![(place::DOOMED, *doomed)]));
    }
    let slots = 128 * LEAF_MAX;
    for doomed in [root, names, now] {
        for (number, slot) in [
            (0, 1),
            (0, 100),
            (0, 127),
            (0, slots),
            (0, u64::from(u32::MAX)),
            (1, 0),
            (1, 3),
            (2, 0),
            (3, 0),
            (4, 0),
            (5, 5),
            (1 << 26, 0),
            (u64::from(u32::MAX), u64::from(u32::MAX)),
        ] {
            let edits = vec![(place::DOOMED, doomed), (place::DOOMED_AT, number << 32 | slot)];
            shapes.push((format!("doomed {doomed:#x} at {number}, {slot}"), edits));
        }
    }
}

/// The counts of leaves.
fn counts(image: &Image, shapes: &mut Vec<Shape>) {
    let ours = image.leaves(place::ROOT).into_iter().chain(image.leaves(place::NAMES));
    for (base, word) in ours {
        let (now, slots) = (image.word(base), word.slots());
        for counts in [
            0,
            1,
            1 << 32,
            slots,
            slots << 32,
            slots << 32 | slots,
            (slots - slots / 8) << 32 | 1,
            (slots + 1) << 32,
            now + 1,
            now.wrapping_sub(1),
            now.wrapping_add(1 << 32),
            now.wrapping_sub(1 << 32),
            u64::from(u32::MAX),
            u64::from(u32::MAX) << 32,
            u64::MAX,
        ] {
            shapes.push((format!("the leaf at {base} counts {counts:#x}"), vec![(base, counts)]));
        }
        for inside in 1..4 {
            shapes
                .push((format!("the leaf at {base}, word {inside} of its head"), vec![(base + inside * 8, u64::MAX)]));
        }
    }
}

/// Slots whose record lies where there are no records.
fn slots(image: &Image, shapes: &mut Vec<Shape>) {
    let holding = |slot: &u64| image.content(*slot).is_entry() && image.content(*slot).granule() > 0;
    for slot in image.slots().filter(holding).collect::<Vec<_>>() {
        let content = image.content(slot);
        if content.record_len() <= 14 {
            continue;
        }
        let whose = format!("slot {slot}, {:?} of {}", content.kind(), content.rest[0] as i64);
        for (what, granule) in places(image) {
            for block in [0, 1, 126, 511] {
                let edits = vec![(slot + 24, granule << 16 | block)];
                shapes.push((format!("{whose}: {what}, block {block}"), edits));
            }
        }
        for kind in 0..8 {
            let edits = vec![(slot + 16, content.rest[1] & !7 | kind)];
            shapes.push((format!("{whose}: kind {kind}"), edits));
        }
        // A lock name among variables, and the reverse.
        shapes.push((format!("{whose}: a name or none"), vec![(slot + 16, content.rest[1] ^ 1 << 6)]));
    }
    // Leaves in which a search does not end.
    for (base, word) in image.leaves(place::ROOT).into_iter().chain(image.leaves(place::NAMES)) {
        for (what, rest) in [("tombstones", [0, 1, 0]), ("one name's", [1, 0x0e42, u64::MAX]), ("bad", [0, 7, 0])] {
            let slots = (1..=word.slots()).map(|number| base + number * 32).filter(|slot| image.word(*slot) == 0);
            let words = |slot: u64| [(slot, 2), (slot + 8, rest[0]), (slot + 16, rest[1]), (slot + 24, rest[2])];
            shapes.push((format!("the leaf at {base}, full of {what}"), slots.flat_map(words).collect()));
        }
        let busy = (1..=word.slots()).map(|number| (base + number * 32, image.word(base + number * 32) | 1));
        shapes.push((format!("the leaf at {base}, all busy"), busy.collect()));
    }
}

/// Bits of the bitmaps: one by one where a span begins or ends, and all of them.
fn bits(image: &Image, shapes: &mut Vec<Shape>) {
    let zone = image.geometry.zone_at(0);
    for (name, bitmap) in
        [("free", place::FREE), ("present", place::PRESENT), ("sticky", place::STICKY), ("fresh", place::FRESH)]
    {
        for (granule, entry) in image.spans() {
            for at in [granule, granule + entry.len() - 1, granule + entry.len()] {
                let (offset, bit) = image.bit_at(bitmap, at);
                let flipped = image.word(offset) ^ 1 << bit;
                shapes.push((format!("{name} bit of {at}, {entry:?}"), vec![(offset, flipped)]));
            }
        }
        for (what, value) in [("no", 0), ("all", u64::MAX), ("every second", 0x5555_5555_5555_5555)] {
            let words = (0..ZONE / 64).map(|word| (zone + bitmap + word * 8, value));
            shapes.push((format!("{what} {name} bits"), words.collect()));
        }
        let turned = (0..ZONE / 64).map(|word| zone + bitmap + word * 8).map(|at| (at, !image.word(at)));
        shapes.push((format!("{name} bits, all flipped"), turned.collect()));
    }
    for (what, value) in [("no", 0), ("all", u64::MAX)] {
        let rooms = (0..67 * 16).map(|word| (zone + place::ROOMS + word * 8, value));
        shapes.push((format!("{what} slabs with room"), rooms.clone().collect()));
        let summary = (0..128).map(|kind| (at::SUMMARY + kind * 8, value));
        shapes.push((format!("{what} summary"), summary.clone().collect()));
        shapes.push((format!("{what} slabs with room, and summary"), rooms.chain(summary).collect()));
    }
}

/// Entries of the span map, by length and state.
fn entries(image: &Image, shapes: &mut Vec<Shape>) {
    for (granule, entry) in image.spans() {
        let offset = image.entry_at(granule);
        let low = entry.0 & u64::from(u32::MAX);
        for len in [0, 1, entry.len() + 1, entry.len() + 64, ZONE, ZONE + 1, u64::from(u32::MAX)] {
            shapes.push((format!("entry {granule} {entry:?}: {len} granules"), vec![(offset, low | len << 32)]));
        }
        for state in 0..16 {
            shapes.push((format!("entry {granule} {entry:?}: state {state}"), vec![(offset, entry.0 & !15 | state)]));
        }
        let next = image.entry_at(granule + 1);
        shapes.push((format!("entry {granule} {entry:?}, twice"), vec![(next, entry.0)]));
        shapes.push((format!("entry {granule} {entry:?}: one that overlaps it"), vec![(next, low | 64 << 32)]));
    }
}

/// All of them.
pub fn all(image: &Image) -> Vec<Shape> {
    let mut shapes = Vec::new();
    words(image, place::ROOT, "variables", &mut shapes);
    words(image, place::NAMES, "names", &mut shapes);
    if image.word(place::DOOMED) != 0 {
        words(image, place::DOOMED, "doomed", &mut shapes);
    }
    roots(image, &mut shapes);
    doomed(image, &mut shapes);
    counts(image, &mut shapes);
    slots(image, &mut shapes);
    bits(image, &mut shapes);
    entries(image, &mut shapes);
    // As if more zones were in use, which are holes.
    for zones in [0, 2, 64, 65, image.geometry.zones_max, image.geometry.zones_max + 1, u64::MAX] {
        shapes.push((format!("{zones} zones"), vec![(place::ZONES, zones)]));
    }
    assert!(
        shapes
            .iter()
            .all(|(_, edits)| edits.iter().all(|(offset, _)| offset % 8 == 0 && *offset < image.geometry.length))
    );
    shapes.retain(|(_, edits)| edits.iter().any(|(offset, value)| image.word(*offset) != *value));
    shapes
}
