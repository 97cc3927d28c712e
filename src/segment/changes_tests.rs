//! How long an iterator over changes pauses between its rounds.

use crate::coordination::AsCoordination;
use crate::coordination::changes::Changes;
use crate::coordination::changes_wait::Step;
use crate::key::Key;
use crate::process::wait_policy::Blocking;
use crate::segment::{Options, Segment};

/// Two processes that answer each other change something as soon as the other one was told, for as long as they like. A
/// pause of milliseconds would be all that they do.
#[test]
fn a_change_that_follows_each_round_is_told_without_a_long_pause() {
    let key = Key::text(&format!("changes-tests-{}", std::process::id())).unwrap();
    let options = Options { size: Some(64 << 20), create: Some(true), ..Options::default() };
    let segment = Segment::attach(key, &options).unwrap();
    let guard = segment.attachment().unwrap();
    let att = guard.coordination();
    let mut changes = Changes::from_now(att, None, &Blocking).unwrap();
    for round in 0..40 {
        segment.put(1, &round).unwrap();
        loop {
            match att.step_changes(&mut changes, false, None, &Blocking).unwrap() {
                Step::Change(..) => break,
                Step::Pause(pause) => std::thread::sleep(pause),
                Step::Sleep(..) | Step::Due => {}
            }
        }
        assert_eq!(changes.rounds_in_a_row(), 0, "round {round}");
    }
    drop(guard);
    segment.destroy().unwrap();
}
