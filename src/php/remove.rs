//! Removing a variable, or all of them. "Order of stores" in `docs/php.md`.

use crate::error::Result;
use crate::os::sysv_shm::Mapping;
use crate::php::chain::survey;
use crate::php::close_gaps::close_gaps;
use crate::php::header::Header;
use crate::php::layout::GAP;
use crate::php::put::{Habit, settle};
use crate::php::unfinished::writer;

/// Removes a variable. Returns `false` if there is none.
pub fn remove(map: &Mapping, index: i64, habit: Habit) -> Result<bool> {
    let mut writer = writer(map)?;
    let Some(found) = survey(map, &writer.header, index)?.found.filter(|_| index != GAP) else { return Ok(false) };
    writer.begin()?;
    // CRASH: one store takes it out of the chain.
    writer.unlink(&found)?;
    writer.finish()?;
    settle(&mut writer, habit)?;
    Ok(true)
}

/// Removes all variables.
pub fn clear(map: &Mapping) -> Result<()> {
    let mut writer = writer(map)?;
    survey(map, &writer.header, GAP)?;
    writer.begin()?;
    let start = writer.header.start;
    writer.header.lower_end(map, start)?;
    close_gaps(&mut writer)
}

/// Closes the gaps that were left by a handle that replaced often.
pub fn tidy(map: &Mapping) -> Result<()> {
    let header = Header::read(map)?;
    if survey(map, &header, GAP)?.gaps == 0 {
        return Ok(());
    }
    settle(&mut writer(map)?, Habit::Seldom)
}
