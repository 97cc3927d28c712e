//! Report.

/// What a check counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Report {
    /// Variables.
    pub variables: u64,
    /// Bytes charged.
    pub used: u64,
    /// Named locks that are held.
    pub locks: u64,
    /// Slots of the tables.
    pub slots: u64,
    /// Slots in which a variable was.
    pub tombstones: u64,
    /// Zones in use.
    pub zones: u64,
    /// Slabs, and their blocks in use.
    pub slabs: u64,
    /// See above.
    pub blocks: u64,
    /// Spans that hold a value.
    pub live: u64,
    /// Spans that somebody is filling or freeing.
    pub busy: u64,
    /// Spans that are retired but pinned.
    pub retired: u64,
    /// Granules that are free.
    pub free: u64,
    /// Participants that live.
    pub living: u64,
    /// Participants that died and are not reaped yet.
    pub dead: u64,
    /// What could not be told because others changed it at each look: sums, and what was in use without its owner being met.
    pub undecided: u64,
}
