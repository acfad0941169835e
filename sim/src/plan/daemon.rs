//! Whose algorithm the hosts of a run follow.

use turnip_core::Mutant;

/// Whose algorithm the hosts run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Daemon {
    /// turnip's, with perhaps one rule broken.
    Turnip(Option<Mutant>),
    /// The original turnip's.
    Naive,
}

impl Daemon {
    /// All that break a rule of ours.
    pub fn mutants() -> Vec<Daemon> {
        Mutant::ALL.iter().map(|&mutant| Daemon::Turnip(Some(mutant))).collect()
    }

    /// Its name on the command line.
    pub fn name(&self) -> String {
        match self {
            Daemon::Turnip(None) => "turnip".into(),
            Daemon::Turnip(Some(mutant)) => format!("{mutant:?}"),
            Daemon::Naive => "naive".into(),
        }
    }
}

impl std::str::FromStr for Daemon {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self::mutants();
        all.extend([Daemon::Turnip(None), Daemon::Naive]);
        let names: Vec<String> = all.iter().map(Daemon::name).collect();
        all.into_iter()
            .find(|daemon| daemon.name() == text)
            .ok_or_else(|| format!("{text:?} is no algorithm: {} are", names.join(", ")))
    }
}
