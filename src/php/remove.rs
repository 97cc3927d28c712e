//! Removing a variable, or all of them. "Removing" in `docs/php.md`.

use crate::error::Result;
use crate::os::sysv_shm::Mapping;
use crate::php::chain::Survey;
use crate::php::change::{NO_CHUNK, begin};
use crate::php::close_gaps::close_gaps;
use crate::php::header::Header;
use crate::php::layout::is_reserved;
use crate::php::patience::patiently;
use crate::php::writer::Writer;

/// Removes a variable, as often as its index occurs. Returns `false` if there is none.
pub fn remove(map: &Mapping, index: i64) -> Result<bool> {
    if is_reserved(index) {
        return Ok(false);
    }
    let mut removed = false;
    loop {
        let mut survey = Survey::default();
        let mut writer = Writer { map, header: Header::default() };
        begin(&mut writer, index, NO_CHUNK, &mut survey)?;
        let Some(found) = survey.found else {
            if removed {
                close_gaps(&mut writer, false)?;
            }
            return Ok(removed);
        };
        // CRASH: one store takes it out of the chain.
        if found.before.is_some() && found.chunk.following() == writer.header.end {
            writer.header.lower_end(map, found.chunk.at)?;
            if survey.gaps == 0 {
                return Ok(true);
            }
        } else {
            writer.unlink(&found)?;
            writer.empty(&found)?;
        }
        removed = true;
        if survey.twice.is_none() {
            close_gaps(&mut writer, false)?;
            return Ok(true);
        }
    }
}

/// Removes all variables. The chain may be damaged: nobody walks it any more.
pub fn clear(map: &Mapping) -> Result<()> {
    let mut header = patiently(|| Header::read_to_change(map))?;
    header.mend_free(map)?;
    let start = header.start;
    if header.end == start { Ok(()) } else { header.lower_end(map, start) }
}
