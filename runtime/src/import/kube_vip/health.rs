//! kube-vip's check of the control plane, as a `[[check]]`.

use std::collections::BTreeSet;

use super::Variable;
use crate::import::document::{Table, Value};
use crate::import::origin::Origin;

/// What it is called.
pub(super) const NAME: &str = "control-plane";

/// The check, should there be one; what it is made of is used, and where its address stands is said.
pub(super) fn check<'a>(
    find: &impl Fn(&str) -> Option<&'a Variable>,
    used: &mut BTreeSet<usize>,
) -> Option<(Table, Origin)> {
    let of = |what: &str| find(&format!("control_plane_health_check_{what}"));
    let address = of("address").filter(|one| one.value.starts_with("http"))?;
    let mut table = Table::new("[[check]]", NAME);
    let mut put = |key: &str, value: Value, from: &Variable| {
        used.insert(from.origin.id);
        table.put(key, value, std::slice::from_ref(&from.origin));
    };
    put("name", Value::Text(NAME.into()), address);
    put("http", Value::Text(address.value.clone()), address);
    if let Some(path) = of("ca_path").filter(|_| address.value.starts_with("https")) {
        put("ca", Value::Text(path.value.clone()), path);
    }
    for (what, key) in [("period_seconds", "interval"), ("timeout_seconds", "timeout")] {
        if let Some(one) = of(what).filter(|one| one.value.parse::<u32>().is_ok_and(|s| s > 0)) {
            put(key, Value::Text(format!("{}s", one.value)), one);
        }
    }
    let number = |one: &&Variable| one.value.parse::<u32>().is_ok_and(|number| number > 0);
    if let Some(one) = of("failure_threshold").filter(number) {
        put("fall", Value::Number(one.value.parse().unwrap_or(1)), one);
    }
    Some((table, address.origin.clone()))
}
