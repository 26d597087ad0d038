//! A plain English reading of an expression.

use super::spec::Spec;

/// The reading; an expression too odd for one stands for itself.
pub(super) fn describe(expression: &str, _spec: &Spec, zone: &str) -> String {
    format!("cron `{expression}` ({zone})")
}
