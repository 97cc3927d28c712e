//! How large a new segment is: its limit, its arena of addresses, and the first length of its object, as the options
//! and the limits of this process allow. Nothing is made here: that is in `create`. What the sizes mean is in
//! docs/format.md, "Overall".

use crate::error::{Error, Lack, Result};
use crate::format::{GRANULE, Geometry, ZONE};
use crate::os::object;
use crate::os::{Limited, limit_of};
use crate::segment::options::Options;

/// The default limit.
const SIZE: u64 = 1 << 30;
/// The largest limit, if the memory file system has no size of its own: more than any address space has.
const LIMIT_MAX: u64 = 1 << 44;
/// The arena has this many times as many addresses as the limit has bytes, so that fragmentation never decides what
/// fits.
const RESERVE_FACTOR: u64 = 16;
/// The same if the addresses of the process are limited.
const RESERVE_FACTOR_NARROW: u64 = 4;
/// The arena has at least this many addresses, so that the limit can be raised later.
const RESERVE_MIN: u64 = 64 << 30;

/// The object's first length: the zones that the limit fills, and one eighth and one zone more for what is free between
/// values.
pub fn first_length(geometry: &Geometry, limit: u64) -> u64 {
    geometry.end_of_zones((limit + limit / 8).div_ceil(ZONE * GRANULE) + 1)
}

/// The limit of a new segment, and the arenas that it may get, the largest first.
pub fn plan_sizes(options: &Options) -> Result<(u64, Vec<Geometry>)> {
    let (total, _) = object::file_system()?;
    let (addresses, file) = (limit_of(Limited::Addresses), limit_of(Limited::File));
    let most = addresses.map_or(u64::MAX, |n| n / 2).min(file.unwrap_or(u64::MAX));
    // The default is smaller if the limits of this process are narrow: the caller did not ask for a gibibyte.
    let limit = options.size.unwrap_or(SIZE.min(total).min(most / 4).max(1).min(options.reserve.unwrap_or(u64::MAX)));
    if limit > total.min(LIMIT_MAX) {
        return Err(too_large(limit, total));
    }
    let zone = ZONE * GRANULE;
    let least = limit.saturating_mul(2).next_multiple_of(zone);
    let want = match (options.reserve, addresses) {
        (Some(reserve), _) => reserve.saturating_mul(2).next_multiple_of(zone),
        (None, None) => limit.saturating_mul(RESERVE_FACTOR).clamp(RESERVE_MIN, 1 << 45).next_power_of_two(),
        // A process with few addresses does not spend them on a limit that may never be raised.
        (None, Some(_)) => limit.saturating_mul(RESERVE_FACTOR_NARROW).next_power_of_two().max(zone),
    };
    let sizes = std::iter::successors(Some(want), |size| Some(size / 2))
        .take_while(|size| *size >= least && *size >= zone && size.is_multiple_of(zone))
        .chain([least])
        .take(if options.reserve.is_some() { 1 } else { usize::MAX });
    let geometries: Vec<_> = sizes.filter_map(|size| Geometry::new(size / GRANULE)).collect();
    let fits = |geometry: &&Geometry| first_length(geometry, limit) <= most;
    let fitting: Vec<_> = geometries.iter().filter(fits).copied().collect();
    if fitting.is_empty() {
        let needed = geometries.iter().map(|geometry| first_length(geometry, limit)).min();
        return Err(too_narrow(options, limit, needed.unwrap_or(least), most));
    }
    Ok((limit, fitting))
}

/// The error for a limit that the memory file system, of `total` bytes, cannot hold.
fn too_large(limit: u64, total: u64) -> Error {
    let free = object::file_system().map_or(0, |(_, free)| free);
    let remedy = format!(
        "the memory file system {} is smaller than the size asked for: ask for less, or enlarge it (mount -o remount,size=…; \
         docker --shm-size; Kubernetes: a memory emptyDir)",
        object::DIR
    );
    Error::Full { lack: Lack::Other, needed: limit, free, size: total, remedy }
}

/// The error for a segment whose object begins with `needed` bytes, if the limits of this process leave it only `most`.
fn too_narrow(options: &Options, limit: u64, needed: u64, most: u64) -> Error {
    let smallest = Geometry::new(ZONE).map_or(0, |geometry| first_length(&geometry, 1));
    let remedy = match needed > smallest && options.reserve.is_none_or(|reserve| reserve > limit) {
        true => "raise them, or ask for less: attach(key, size, reserve=size)".into(),
        false => format!("raise them (no segment begins with less than {smallest})"),
    };
    Error::Full {
        lack: Lack::Other,
        needed,
        free: most,
        size: most,
        remedy: format!(
            "a segment of {limit} bytes begins with {needed} bytes of addresses and as long a file (hardly any of it \
             memory), and the limits of this process (half of ulimit -v; ulimit -f) leave {most}: {remedy}"
        ),
    }
}
