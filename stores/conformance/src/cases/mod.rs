//! All cases, by what they are about.

mod jobs;

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
    [jobs::all()].concat()
}
