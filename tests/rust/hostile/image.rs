//! A populated segment as bytes: read once, damaged in memory, written to a new file for each case.

use shmvar::format::{CLASSES, GRANULE, Geometry, LeafWord, PAGE, Root, SLAB_HEAD, SpanEntry, SpanState, ZONE, at};
use shmvar::{AsVariables, Blocking, Condition, Index, Key, Options, Segment, TableOf};
use shmvar::{format::slot_flags::EXPIRES, sync::slot::Content};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

/// The number of a participant that died and left a half-filled span, a retired one, and a pin.
pub const DEAD: u64 = 1;

/// Where the format says that things are. (`docs/format.md`)
pub mod place {
    pub const LOCK: u64 = 4_096;
    pub const QUEUED: u64 = 4_104;
    pub const ROOT: u64 = 4_160;
    pub const NAMES: u64 = 4_168;
    pub const ZONES: u64 = 4_176;
    pub const LIMIT: u64 = 4_184;
    pub const PARTICIPANTS_TOP: u64 = 4_192;
    pub const VERSION: u64 = 4_224;
    pub const USED: u64 = 4_232;
    pub const COUNT: u64 = 4_240;
    pub const EXPIRING: u64 = 4_248;
    pub const DOOMED: u64 = 4_256;
    pub const DOOMED_AT: u64 = 4_264;
    pub const MANY: u64 = 4_288;
    /// In the intent: the slots of a set, and its block edits.
    pub const SET: u64 = 8_192 + 448;
    pub const SET_BLOCKS: u64 = 8_192 + 1_344;
    pub const BATCH: u64 = 4_296;
    pub const CURSOR: u64 = 4_304;
    /// In a zone's metadata: the bitmaps of its granules, and those of its slabs by class.
    pub const FREE: u64 = 32_768;
    pub const PRESENT: u64 = 33_280;
    pub const STICKY: u64 = 33_792;
    pub const FRESH: u64 = 34_304;
    pub const ROOMS: u64 = 34_816;
}

/// What is stored under which index in every image.
pub const INTS: [i64; 9] = [1, 2, 3, 4, 5, 6, 8, 1000, 1001];
pub const TEXTS: [&str; 5] = ["text", "large text", "é", "buffers", "in place"];
/// Bytes of what is in place.
pub const IN_PLACE: u64 = 9_000;

/// Locks that the dead participant owns: in a slot, and in a record.
pub const LOCKS: [Index<'static>; 2] = [Index::Int(1), Index::Text("the lock")];

/// Queues, by name: in a slot, and in a record. Of the first one the dead participant has taken an item.
pub const QUEUES: [Index<'static>; 2] = [Index::Int(1), Index::Text("the queue")];

/// The pages of a segment that exist.
#[derive(Clone)]
pub struct Image {
    pub name: String,
    pub key: Key,
    pub geometry: Geometry,
    pages: BTreeMap<u64, Vec<u8>>,
}

/// A pickle of a list that holds so many bytes: never inline, never a scalar.
pub fn pickle(len: usize) -> Vec<u8> {
    let mut bytes = b"\x80\x05]\x94B".to_vec();
    bytes.extend((len as u32).to_le_bytes());
    bytes.extend((0..len).map(|i| (i * 7) as u8));
    bytes.extend(b"a.");
    bytes
}

/// Bytes of a value that takes a span.
pub const SPAN: usize = 24_000;

/// Splits the only leaf, and the one of the first half of the hashes once more: room for so many more makes it. Then they are
/// small again.
fn split(segment: &Segment) {
    let att = segment.for_change().unwrap();
    let grow = |hash: u64, more: u64| {
        let leaf = att.variables().leaf_of(hash, TableOf::Variables).unwrap();
        att.variables().grow(&leaf, hash, TableOf::Variables, more, &Blocking).unwrap();
    };
    grow(0, 4_000);
    grow(0, 4_000);
    for first in 0..4_u64 {
        grow(first << 62, 1);
    }
}

fn put(segment: &Segment, index: Index<'_>, pickle: &[u8]) {
    segment.put_pickle(&index, &[pickle], Condition::Always, &Blocking).unwrap();
}

impl Image {
    /// Populates a segment of this key and takes it: inline values, records, spans, buffers, bytes in place, text indexes, an expiry, a
    /// directory of four words and three leaves (with `most` large enough, all of them have grown), tombstones, and queues,
    /// and what a dead participant leaves.
    pub fn take(key: &Key, most: i64) -> Self {
        shmvar::destroy(key).unwrap();
        let options = Options { size: Some(8 << 20), create: Some(true), ..Options::default() };
        let segment = Segment::attach(key.clone(), &options).unwrap();
        split(&segment);
        for index in 1000..1000 + most {
            put(&segment, Index::Int(index), b"\x80\x05K\x07.");
        }
        for index in 1010..1000 + most {
            assert!(segment.remove(index).unwrap());
        }
        put(&segment, Index::Int(1), b"\x80\x05K\x01.");
        for (index, len) in [(2, 30), (6, 33), (3, 3_000), (8, 100), (4, SPAN), (20, SPAN), (21, SPAN), (22, SPAN)] {
            put(&segment, Index::Int(index), &pickle(len));
        }
        for (text, len) in [("text", 50), ("é", 9_000), ("large text", SPAN + 1_000)] {
            put(&segment, Index::Text(text), &pickle(len));
        }
        // Two slabs whose records fit one.
        (60..72).for_each(|index| put(&segment, Index::Int(index), &pickle(1_950)));
        (62..70).for_each(|index| assert!(segment.remove(index).unwrap()));
        segment.put_bytes(5, &[5; SPAN]).unwrap();
        segment.put_bytes("buffers", &[6; SPAN]).unwrap();
        drop(segment.shared_bytes("in place", IN_PLACE).unwrap());
        segment.put_bytes(7, &[7; 300_000]).unwrap();
        assert!(segment.remove(7).unwrap());
        let name = segment.info().unwrap().name;
        for queue in QUEUES {
            for len in [3, 100, SPAN] {
                assert!(segment.queue_put(queue, &vec![8; len], None).unwrap());
            }
        }
        let taken = segment.queue_take(QUEUES[0], None).unwrap().unwrap();
        let guards = LOCKS.map(|name| segment.lock(name, None).unwrap());
        let mut image = Image::read(&name, key);
        drop((guards, taken));
        segment.detach();

        // Most of the memory of the larger leaves was given back.
        let left = |granule: &u64| image.bit(place::FREE, *granule) && image.bit(place::STICKY, *granule);
        for granule in (0..ZONE).filter(left).filter(|granule| granule % 16 != 0).collect::<Vec<_>>() {
            [place::PRESENT, place::STICKY, place::FRESH].into_iter().for_each(|at| image.set_bit(at, granule, false));
            image.pages.remove(&image.geometry.granule_at(granule));
        }
        // Pages that exist but were never written to look like holes.
        for granule in (0..ZONE).filter(|granule| image.bit(place::PRESENT, *granule)).collect::<Vec<_>>() {
            let start = image.geometry.granule_at(granule);
            image.set(start, image.word(start));
        }
        // As if the image had been taken after the detach, except for the locks.
        image.set(at::PARTICIPANTS, image.word(at::PARTICIPANTS) >> 32 << 32);
        image.set(at::PARTICIPANTS + 48, 0);
        image.expire(8);
        image.list();
        image.bereave();
        segment.destroy().unwrap_err();
        shmvar::destroy(key).unwrap();
        let depths: Vec<_> = image.leaves(place::ROOT).iter().map(|(_, word)| word.depth()).collect();
        assert_eq!(depths, [2, 2, 1]);
        image
    }

    pub fn read(name: &str, key: &Key) -> Self {
        let file = File::open(format!("/dev/shm/{name}")).unwrap();
        let (mut pages, mut at) = (BTreeMap::new(), 0);
        while let Ok(start) = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(at)) {
            at = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(start)).unwrap();
            for offset in (start..at).step_by(PAGE as usize) {
                let mut page = vec![0; PAGE as usize];
                file.read_exact_at(&mut page, offset).unwrap();
                pages.insert(offset, page);
            }
        }
        let granules = u64::from_le_bytes(pages[&0][56..64].try_into().unwrap());
        Image { name: name.into(), key: key.clone(), geometry: Geometry::new(granules).unwrap(), pages }
    }

    pub fn bytes(&self) -> u64 {
        self.pages.len() as u64 * PAGE
    }

    pub fn word(&self, offset: u64) -> u64 {
        let Some(page) = self.pages.get(&(offset / PAGE * PAGE)) else { return 0 };
        let at = (offset % PAGE) as usize;
        u64::from_le_bytes(page[at..at + 8].try_into().unwrap())
    }

    pub fn set(&mut self, offset: u64, value: u64) {
        let page = self.pages.entry(offset / PAGE * PAGE).or_insert_with(|| vec![0; PAGE as usize]);
        let at = (offset % PAGE) as usize;
        page[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    pub fn entry_at(&self, granule: u64) -> u64 {
        self.geometry.zone_at(granule / ZONE) + granule % ZONE * 8
    }

    pub fn entry(&self, granule: u64) -> SpanEntry {
        SpanEntry(self.word(self.entry_at(granule)))
    }

    /// The word and the number of the bit of a granule in a bitmap of its zone.
    pub fn bit_at(&self, bitmap: u64, granule: u64) -> (u64, u64) {
        (self.geometry.zone_at(granule / ZONE) + bitmap + granule % ZONE / 64 * 8, granule % 64)
    }

    pub fn bit(&self, bitmap: u64, granule: u64) -> bool {
        let (offset, bit) = self.bit_at(bitmap, granule);
        self.word(offset) >> bit & 1 == 1
    }

    fn set_bit(&mut self, bitmap: u64, granule: u64, on: bool) {
        let (offset, bit) = self.bit_at(bitmap, granule);
        self.set(offset, self.word(offset) & !(1 << bit) | u64::from(on) << bit);
    }

    /// The spans of the first zone, from the left.
    pub fn spans(&self) -> Vec<(u64, SpanEntry)> {
        (0..ZONE).map(|granule| (granule, self.entry(granule))).filter(|(_, entry)| !entry.is_none()).collect()
    }

    /// Offsets of the words of the directory that this root names.
    pub fn words(&self, root: u64) -> Vec<u64> {
        let root = Root(self.word(root));
        let base = self.geometry.granule_at(root.granule());
        (0..1 << root.depth()).map(|number| base + number * 8).collect()
    }

    /// The offsets of the leaves of that table, and the words that name them.
    pub fn leaves(&self, root: u64) -> Vec<(u64, LeafWord)> {
        let mut words: Vec<_> = self.words(root).iter().map(|at| LeafWord(self.word(*at))).collect();
        words.dedup();
        words.into_iter().map(|word| (self.geometry.granule_at(word.granule()), word)).collect()
    }

    /// Offsets of all slots: of the table of variables, of the names, of a doomed table.
    pub fn slots(&self) -> impl Iterator<Item = u64> + '_ {
        let roots = [place::ROOT, place::NAMES, place::DOOMED].into_iter().filter(|root| self.word(*root) != 0);
        let leaves = roots.flat_map(|root| self.leaves(root));
        leaves.flat_map(|(base, word)| (1..=word.slots()).map(move |number| base + number * 32))
    }

    /// Where the leaf of a slot begins.
    pub fn leaf_of(&self, slot: u64) -> u64 {
        let leaves = [place::ROOT, place::NAMES].into_iter().flat_map(|root| self.leaves(root));
        let mut holds = leaves.filter(|(base, word)| (*base..base + word.size() * GRANULE).contains(&slot));
        holds.next().unwrap().0
    }

    pub fn content(&self, slot: u64) -> Content {
        let word = |i: u64| self.word(slot + i * 8);
        Content { word: word(0), rest: [word(1), word(2), word(3)] }
    }

    fn set_content(&mut self, slot: u64, content: &Content) {
        self.set(slot, content.word);
        for (i, word) in content.rest.iter().enumerate() {
            self.set(slot + 8 + i as u64 * 8, *word);
        }
    }

    /// The slot of an integer index.
    pub fn slot_of(&self, index: i64) -> u64 {
        let ours = |slot: &u64| {
            let content = self.content(*slot);
            content.is_variable() && !content.is_text() && content.rest[0] == index as u64
        };
        self.slots().find(ours).unwrap()
    }

    /// Offsets of the slots of locks.
    pub fn locks(&self) -> Vec<u64> {
        let lock = |slot: &u64| self.content(*slot).is_entry() && self.content(*slot).is_lock();
        self.slots().filter(lock).collect()
    }

    /// First granule of the span with the list of a batch, while its bytes are there.
    pub fn list_granule(&self) -> Option<u64> {
        let start = |granule: u64| self.geometry.granule_at(granule);
        (0..ZONE).find(|granule| self.word(start(*granule)) == 3 && self.word(start(*granule) + 8) == 120)
    }

    /// Makes the value of 22 the list of a batch: an inline value, one for a block, and one in the span of 20.
    fn list(&mut self) {
        let list = self.geometry.granule_at(self.content(self.slot_of(22)).granule());
        let span = self.content(self.slot_of(20));
        let inline = Content::inline(1, 0, b"\x80\x05K\x02.");
        let block = Content::record(2, 0, 0, 32, 0, Some(0));
        let mut words = vec![3, 0];
        words.extend(inline.rest);
        words.extend(block.rest);
        words.extend([u64::from_le_bytes(*b"\x80\x05C\x1a...."); 4]);
        words.extend(span.rest);
        words[1] = words.len() as u64 * 8;
        for (i, word) in words.iter().enumerate() {
            self.set(list + i as u64 * 8, *word);
        }
    }

    /// The image with a batch under way whose first entry is made.
    pub fn batch(&self) -> Self {
        let mut image = self.clone();
        image.set(place::MANY, 7);
        image.set(place::BATCH, self.list_granule().unwrap() << 8 | 1);
        image.set(place::CURSOR, 1);
        image
    }

    /// Offset of the record that a slot names.
    pub fn record(&self, content: &Content) -> u64 {
        let start = self.geometry.granule_at(content.granule());
        match self.entry(content.granule()) {
            entry if entry.state() == SpanState::Slab => {
                start + SLAB_HEAD + content.block() * u64::from(CLASSES[entry.class()])
            }
            _ => start + content.lead(),
        }
    }

    /// Gives a record an expiry in some hundred years: its first eight bytes.
    fn expire(&mut self, index: i64) {
        let slot = self.slot_of(index);
        let mut content = self.content(slot);
        content.rest[1] |= EXPIRES;
        self.set_content(slot, &content);
        self.set(self.record(&content), 1 << 62);
        self.set(place::EXPIRING, self.word(place::EXPIRING) + 1);
    }

    /// Adds a dead participant: with a span that it was filling, one that it had retired, and one that it had pinned.
    fn bereave(&mut self) {
        for (index, state) in [(20, SpanState::Filling), (21, SpanState::Retired), (22, SpanState::Filling)] {
            let slot = self.slot_of(index);
            let content = self.content(slot);
            let entry = self.entry(content.granule());
            let left = SpanEntry::new(state, entry.len()).with_owner(DEAD as u32);
            self.set(self.entry_at(content.granule()), left.0);
            self.set(place::USED, self.word(place::USED) - content.charge());
            self.set(place::COUNT, self.word(place::COUNT) - 1);
            self.set_content(slot, &Content { word: content.word, ..Content::tombstone() });
            let leaf = self.leaf_of(slot);
            self.set(leaf, self.word(leaf) - 1);
        }
        let record = at::PARTICIPANTS + DEAD * 64;
        self.set(record, 1 | 77_777 << 32);
        self.set(record + 8, 1);
        self.set(record + 24, 1);
        self.set(record + 32, 1);
        self.set(record + 48, 1);
        // The locks belong to it, in its first life; it is also their `next`.
        let life = 1 << 10 | DEAD;
        for slot in self.locks() {
            let content = self.content(slot);
            match content.is_text() {
                true => self.set(self.record(&content) + 8, life << 32 | life),
                false => {
                    self.set(slot + 16, content.rest[1] & 0xffff | life << 16 | life << 48);
                    self.set(slot + 24, content.rest[2] & !0xffff | life >> 16);
                }
            }
        }
        // Processes slept and watched.
        for number in 0..256 {
            self.set(at::WAKE + number * 16, 3 << 32 | 5);
        }
        let pinned = self.content(self.slot_of(4)).granule();
        let bitmap = self.geometry.pins + DEAD * self.geometry.pin_stride;
        self.set(bitmap + pinned / 64 * 8, 1 << (pinned % 64));
        let top = self.word(place::PARTICIPANTS_TOP) & !0xffff_ffff;
        self.set(place::PARTICIPANTS_TOP, top | (DEAD + 1));
    }

    /// The image with a change that is decided and not made: its slot is busy, its intent valid. The intent has an entry in
    /// every group; directory words and the doomed table keep their values.
    pub fn pending(&self) -> Self {
        let mut image = self.clone();
        let slot = image.slot_of(2);
        let content = image.content(slot);
        let version = image.word(place::VERSION) + 1;
        image.set(slot, content.word | 1);
        let (granule, block) = (content.granule(), content.block());
        let (entry, leaf) = (image.entry(granule).0, image.leaf_of(slot));
        let new = content.with_version(version);
        let mut words = vec![9, 9, slot, new.word, new.rest[0], new.rest[1], new.rest[2], leaf, image.word(leaf)];
        words.extend([place::ROOT, place::NAMES, place::ZONES].map(|at| image.word(at)));
        words.push(version);
        words.extend([place::USED, place::COUNT, place::EXPIRING].map(|at| image.word(at)));
        words.extend([0b111 << 61 | 1 << 32 | 1, granule << 32 | 1 << 31 | block, 0]);
        words.extend([place::MANY, place::BATCH, place::CURSOR].map(|at| image.word(at)));
        words.extend([0, 0]);
        let directory = image.words(place::ROOT);
        words.extend([directory[0], 2, image.word(directory[0]), image.word(directory[1]), 0, 0, 0, 0]);
        words.extend([granule, entry, entry]);
        assert_eq!(words.len(), 35);
        for (i, word) in words.iter().enumerate() {
            image.set(at::INTENT + i as u64 * 8, *word);
        }
        image
    }

    /// The image with a small batch that is decided and half made: the intent has a set of two slots, the first of which is
    /// busy, and a block edit; `many` is odd.
    pub fn pending_set(&self) -> Self {
        let mut image = self.pending();
        let (first, second) = (image.slot_of(2), image.slot_of(1));
        let (version, many) = (image.word(place::VERSION), image.word(place::MANY) | 1);
        let content = image.content(first);
        let block = content.granule() << 32 | 1 << 31 | content.block();
        // No slot, leaf, span or batch of its own.
        for word in [2, 3, 4, 5, 6, 7, 8] {
            image.set(at::INTENT + word * 8, 0);
        }
        image.set(at::INTENT + 12 * 8, version + 2);
        image.set(at::INTENT + 16 * 8, 2 << 40 | 1 << 48);
        image.set(at::INTENT + 19 * 8, many);
        image.set(place::MANY, many);
        for (number, slot) in (0_u64..).zip([first, second]) {
            let new = Content { word: 0, ..image.content(slot) }.with_version(version + 1 + number);
            if number == 0 {
                image.set(slot, new.word | 1);
            }
            let leaf = image.leaf_of(slot);
            let words = [slot, new.word, new.rest[0], new.rest[1], new.rest[2], leaf, image.word(leaf)];
            for (i, word) in (0_u64..).zip(words) {
                image.set(place::SET + number * 56 + i * 8, word);
            }
        }
        image.set(place::SET_BLOCKS, block);
        image
    }

    /// The image after a `clear` whose memory is not yet freed, except for what the first leaf named: a new directory and leaf
    /// are in force.
    pub fn doomed(&self) -> Self {
        let mut image = self.clone();
        let free: Vec<_> = (0..ZONE).filter(|granule| image.bit(place::FREE, *granule)).take(2).collect();
        let (directory, leaf) = (free[0], free[1]);
        for (granule, state) in [(directory, SpanState::Directory), (leaf, SpanState::Leaf)] {
            image.set(image.entry_at(granule), SpanEntry::new(state, 1).0);
            image.set_bit(place::FREE, granule, false);
            image.set_bit(place::PRESENT, granule, true);
            image.set_bit(place::STICKY, granule, true);
            let start = image.geometry.granule_at(granule);
            (0..GRANULE / 8).for_each(|word| image.set(start + word * 8, 0));
        }
        image.set(image.geometry.granule_at(directory), LeafWord::new(leaf, 0, 1, 1).0);
        image.set(place::DOOMED, image.word(place::ROOT));
        image.set(place::DOOMED_AT, 0);
        image.set(place::ROOT, Root::new(directory, 0, 77).0);
        [place::COUNT, place::EXPIRING].into_iter().for_each(|at| image.set(at, 0));
        // Queues stay.
        image.set(place::USED, image.word(place::QUEUED));
        image
    }

    /// Makes the check of the identity fit its other bytes.
    pub fn sign(&mut self) {
        let check = check_of(&self.pages[&0][..240]);
        self.set(240, check);
    }

    /// Writes these bytes to a new file at the segment's name.
    pub fn lay(&self) -> File {
        let path = format!("/dev/shm/{}", self.name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path).unwrap();
        file.set_len(self.geometry.length).unwrap();
        let mut run: (u64, Vec<u8>) = (0, Vec::new());
        for (offset, page) in &self.pages {
            if run.0 + run.1.len() as u64 != *offset {
                file.write_all_at(&run.1, run.0).unwrap();
                run = (*offset, Vec::new());
            }
            run.1.extend(page);
        }
        file.write_all_at(&run.1, run.0).unwrap();
        file
    }
}

/// The check of the identity, implemented from the format alone.
fn check_of(bytes: &[u8]) -> u64 {
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    let (key, odd) = ([0x7368_6D76_6172_0001_u64, 0x6964_656E_7469_7479], 0x9E37_79B9_7F4A_7C15);
    let mut state = key[0] ^ fold(bytes.len() as u64 ^ odd, key[1] | 1);
    for chunk in bytes.chunks_exact(8) {
        let word = u64::from_le_bytes(chunk.try_into().unwrap());
        state = fold(state ^ word, key[1] | 1).wrapping_add(odd);
    }
    fold(state ^ odd, key[1] | 1)
}
