//! Whose a System V object is, from the kernel's lists, which everybody may read: `shmctl` and `semctl` tell only who
//! may use it.

use std::fmt;

/// Which list.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Segments.
    Segment,
    /// Sets of semaphores.
    Semaphores,
}

/// The owner of an object, and its nine bits of permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user's number.
    pub uid: u32,
    /// The permissions.
    pub mode: u32,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it belongs to uid {} and has mode 0{:03o}", self.uid, self.mode)
    }
}

/// Returns the owner of the object with a key. `None` if it is gone, or there is no list.
pub fn owner(kind: Kind, key: i32) -> Option<Owner> {
    let file = match kind {
        Kind::Segment => "/proc/sysvipc/shm",
        Kind::Semaphores => "/proc/sysvipc/sem",
    };
    find(&std::fs::read_to_string(file).ok()?, key)
}

/// The owner of the object with a key in the text of a list, whose first line names the columns.
fn find(list: &str, key: i32) -> Option<Owner> {
    let mut lines = list.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let names = lines.next()?;
    let column = |name: &str| names.iter().position(|column| *column == name);
    let (keys, modes, users) = (column("key")?, column("perms")?, column("uid")?);
    let line = lines.find(|line| line.get(keys).and_then(|text| text.parse().ok()) == Some(key))?;
    let mode = u32::from_str_radix(line.get(modes)?, 8).ok()? & 0o777;
    Some(Owner { uid: line.get(users)?.parse().ok()?, mode })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_found_by_the_key() {
        let list = "       key      semid perms      nsems   uid   gid\n  -5  1  1666  3  7  0\n  9 2 600 3 1000 0\n";
        assert_eq!(find(list, -5), Some(Owner { uid: 7, mode: 0o666 }));
        assert_eq!(find(list, 9).map(|owner| owner.to_string()).unwrap(), "it belongs to uid 1000 and has mode 0600");
        assert_eq!([find(list, 1), find("", 9), find("key\n9", 9), find("key perms uid\n9 8", 9)], [None; 4]);
    }
}
