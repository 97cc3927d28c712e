//! A dump, through a handle. Protocol: docs/protocol.md, "Dumps".

use crate::coordination::AsCoordination;
use crate::coordination::dump::Dumped;
use crate::error::Result;
use crate::process::wait_policy::WaitPolicy;
use crate::segment::handle::Segment;
use crate::variables::dump_log::DumpWrite;

impl Segment {
    /// Writes every variable and every item of a queue, as of one instant, to `write`, piece by piece; but not the last
    /// line of the dump, which has a checksum.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt), [`Error::Busy`](crate::Error::Busy), and what `write` returns.
    pub fn dump(&self, write: DumpWrite<'_>, policy: &dyn WaitPolicy) -> Result<Dumped> {
        self.attachment()?.coordination().dump(write, !self.options().readonly, policy)
    }
}
