//! All cases, by what they are about.

mod audit;
mod claims;
mod completion;
mod fencing;
mod history;
mod import;
mod jobs;
mod nodes;
mod paging;
mod pending;
mod races;
mod reaping;
mod strangers;
mod triggers;
mod unknown_outcome;

use crate::runner::Case;

/// Names functions of this module as cases of the group `$group`.
macro_rules! group {
    ($group:literal: $($name:ident),* $(,)?) => {
        pub(super) fn all() -> Vec<$crate::runner::Case> {
            vec![$($crate::runner::Case {
                name: concat!($group, "::", stringify!($name)),
                run: |ctx| Box::pin($name(ctx)),
            }),*]
        }
    };
}
use group;

/// Every case.
pub fn cases() -> Vec<Case> {
    [
        jobs::all(),
        audit::all(),
        claims::all(),
        pending::all(),
        completion::all(),
        fencing::all(),
        nodes::all(),
        reaping::all(),
        triggers::all(),
        races::all(),
        history::all(),
        import::all(),
        paging::all(),
        strangers::all(),
        unknown_outcome::all(),
    ]
    .concat()
}
