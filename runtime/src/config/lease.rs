//! The lease's durations, and what enforces its end.

use std::time::Duration;

use turnip_core::{Lease, LeaseError};

use super::problem::{Collector, Place, Problem};
use super::section::{Given, Section, Value};
use super::{Fence, one_of, values};

pub(super) const LEASE_DEFAULT: Duration = Duration::from_secs(3);

/// The lease, with the place to name when it does not suit the fence.
pub(super) fn read(top: &mut Section, problems: &mut Collector) -> Option<(Lease, Place)> {
    let mut duration = |key| {
        let given = top.take(key)?;
        let parsed = given.as_text().map_err(|_| unitless(&given)).and_then(values::duration);
        match parsed {
            Ok(value) => Some((given, Some(value))),
            Err(what) => {
                top.refuse(key, &given, what, problems);
                Some((given, None))
            }
        }
    };
    let (lease_given, renew_given, guard_given) =
        (duration("lease"), duration("renew"), duration("guard"));
    let drift_given = top.take("drift");
    let drift =
        match drift_given.as_ref().map(|given| given.as_text().and_then(values::percent_ppm)) {
            None => Some(None),
            Some(Ok(ppm)) => Some(Some(ppm)),
            Some(Err(_)) => {
                let given = drift_given.as_ref().expect("just read");
                top.refuse("drift", given, "not a percentage; write it as in \"1%\"", problems);
                None
            }
        };
    let place = lease_given.as_ref().map_or(Place::Default, |(given, _)| given.place.clone());
    let value = |given: &Option<(Given, Option<Duration>)>| match given {
        None => Some(None),
        Some((_, value)) => value.map(Some),
    };
    let (duration, renew, guard, drift) = (
        value(&lease_given)?.unwrap_or(LEASE_DEFAULT),
        value(&renew_given)?,
        value(&guard_given)?,
        drift?,
    );
    // Each setting beside the others' defaults first, so that every wrong one is named.
    let alone = [
        Lease::with(duration, None, None, None).err(),
        Lease::with(duration, None, None, drift).err(),
        Lease::with(duration, renew, None, None).err(),
        Lease::with(duration, None, guard, None).err(),
    ];
    let errors: Vec<_> = alone.into_iter().flatten().collect();
    let errors = match Lease::with(duration, renew, guard, drift) {
        Ok(lease) => return Some((lease, place)),
        Err(error) if errors.is_empty() => vec![error],
        Err(_) => errors,
    };
    for error in errors {
        let (key, given) = match error {
            LeaseError::DurationTooShort(_)
            | LeaseError::DurationTooLong(_)
            | LeaseError::TooShortForLifetimes(_) => ("lease", lease_given.as_ref().map(|g| &g.0)),
            LeaseError::RenewTooShort(_) | LeaseError::RenewTooLong { .. } => {
                ("renew", renew_given.as_ref().map(|g| &g.0))
            }
            LeaseError::GuardTooShort(_) | LeaseError::GuardTooLong { .. } => {
                ("guard", guard_given.as_ref().map(|g| &g.0))
            }
            LeaseError::DriftOutOfRange(_) => ("drift", drift_given.as_ref()),
        };
        match given {
            Some(given) => top.refuse(key, given, error.to_string(), problems),
            None => problems.add(Problem::new(place.clone(), key, None, error.to_string())),
        }
    }
    None
}

fn unitless(given: &Given) -> String {
    match &given.value {
        Value::Integer(number) => match values::duration(&number.to_string()) {
            Err(what) => what,
            Ok(_) => "not a text".into(),
        },
        _ => "not a duration; write it with its unit, as in \"3s\"".into(),
    }
}

/// What silences addresses when the daemon cannot.
pub(super) fn fence(top: &mut Section, problems: &mut Collector) -> Option<Fence> {
    let Some(given) = top.take("fence") else { return Some(Fence::Auto) };
    match one_of(&given, &["auto", "nftables", "lifetime"]) {
        Ok("nftables") => Some(Fence::Nftables),
        Ok("lifetime") => Some(Fence::Lifetime),
        Ok(_) => Some(Fence::Auto),
        Err(what) => {
            top.refuse("fence", &given, what, problems);
            None
        }
    }
}
