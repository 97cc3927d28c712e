//! What a segment evicts where there is no room: the field `evict` of "State" in `docs/format.md`.

/// Which variable is removed where there is no room for another one. It is fixed when a segment is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Eviction {
    /// One that was used least recently.
    Lru,
    /// One that expires soonest; never one that does not expire.
    Ttl,
}

impl Eviction {
    /// The policies, in the order of their codes.
    pub const ALL: [Eviction; 2] = [Eviction::Lru, Eviction::Ttl];

    /// Returns the policy of a code, which is `None` for 0. The outer `None`: there is no such code.
    pub fn of_code(code: u32) -> Option<Option<Self>> {
        match code {
            0 => Some(None),
            1 => Some(Some(Eviction::Lru)),
            2 => Some(Some(Eviction::Ttl)),
            _ => None,
        }
    }

    /// Returns the code of a policy, or of none.
    pub fn code(eviction: Option<Self>) -> u32 {
        match eviction {
            None => 0,
            Some(Eviction::Lru) => 1,
            Some(Eviction::Ttl) => 2,
        }
    }

    /// Returns the name by which users choose the policy.
    pub fn name(self) -> &'static str {
        match self {
            Eviction::Lru => "lru",
            Eviction::Ttl => "ttl",
        }
    }

    /// Returns the policy of a name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|eviction| eviction.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_lead_back() {
        assert_eq!(Eviction::of_code(0), Some(None));
        for eviction in Eviction::ALL {
            assert_eq!(Eviction::of_code(Eviction::code(Some(eviction))), Some(Some(eviction)));
            assert_eq!(Eviction::of_name(eviction.name()), Some(eviction));
        }
        assert!(Eviction::of_code(3).is_none() && Eviction::of_name("LRU").is_none());
    }
}
