//! Faults of the network.

use crate::plan::{Fault, Params};
use crate::timing::Mishandling;

use super::net::{Net, Plane};

impl Net {
    /// Cuts, slows or loses on the links that a fault is about, or takes that back.
    pub fn apply(&mut self, fault: &Fault, begins: bool, params: &Params) {
        let sites = params.sites();
        let all = [Plane::Peer, Plane::Client, Plane::Direct];
        let mut cuts: Vec<(Plane, usize, usize)> = Vec::new();
        let mut cut = |planes: &[Plane], from: usize, to: usize| {
            cuts.extend(planes.iter().map(|&plane| (plane, from, to)));
        };
        match fault {
            &Fault::Cut { from, to } => cut(&all, from, to),
            &Fault::CutPeers { from, to } => cut(&[Plane::Direct], from, to),
            &Fault::Isolate { site } => {
                for other in (0..sites).filter(|&other| other != site) {
                    cut(&all, site, other);
                    cut(&all, other, site);
                }
            }
            &Fault::CutStore { host } => {
                for member in 0..params.members() {
                    let site = params.site_of(member);
                    cut(&[Plane::Client], host, site);
                    cut(&[Plane::Client], site, host);
                }
            }
            &Fault::CutEndpoint { host, member } => {
                let site = params.site_of(member);
                cut(&[Plane::Client], host, site);
                cut(&[Plane::Client], site, host);
            }
            &Fault::CutAnswers { host } => {
                for member in 0..params.members() {
                    cut(&[Plane::Client], params.site_of(member), host);
                }
            }
            Fault::SplitMembers { side } | Fault::Split { side } => {
                let planes: &[Plane] = match fault {
                    Fault::Split { .. } => &all,
                    _ => &[Plane::Peer],
                };
                for a in side.iter().copied() {
                    for b in (0..sites).filter(|b| !side.contains(b)) {
                        cut(planes, a, b);
                        cut(planes, b, a);
                    }
                }
            }
            &Fault::Slow { from, to, by } if begins => self.slow(from, to, by),
            &Fault::Slow { from, to, by } => self.hasten(from, to, by),
            &Fault::Lossy { from, to, ppm } if begins => self.lose(from, to, ppm),
            &Fault::Lossy { from, to, ppm } => self.spare(from, to, ppm),
            &Fault::LossyPeers { from, to, how } => {
                self.mishandle(from, to, if begins { how } else { Mishandling::default() });
            }
            _ => unreachable!("the other faults are not about links"),
        }
        for (plane, from, to) in cuts {
            if begins {
                self.cut(plane, from, to);
            } else {
                self.mend(plane, from, to);
            }
        }
    }
}
