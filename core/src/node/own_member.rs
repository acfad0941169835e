//! The etcd member on this host, as it is asked for itself: whether it is one, and always the same.
//!
//! A load balancer, or a proxy, has another member answer each time, and each of them says the truth of
//! itself. Who followed that would have etcd's leader on this host at every other look.

use super::outbox::Outbox;
use crate::records::MemberRecord;
use crate::report::Report;
use crate::store::{MemberStatus, StoreError};

/// So many answers in a row, a minute with the default lease, and a member that took the place of another is
/// believed. Whoever replaces a member can wait for that: meanwhile its VIPs stay where they are.
const BELIEVED_AFTER: u32 = 120;

/// Who answered so far.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct OwnMember {
    last: Option<u64>,
    /// How often in a row it has answered since it took the place of another; none when it is believed.
    unsettled: Option<u32>,
    /// Another took its place before it had settled.
    several: bool,
    /// What was told last.
    told: Option<String>,
}

impl OwnMember {
    /// What the answer says of the member on this host; none when there is no such member, or no answer.
    /// `followed`: a VIP follows it, so an operator should know.
    pub(super) fn answered(
        &mut self,
        answer: Result<MemberStatus, StoreError>,
        followed: bool,
        out: &mut Outbox,
    ) -> Option<MemberRecord> {
        let status = match answer {
            Ok(status) => status,
            Err(StoreError::Unavailable(_)) => return None,
            Err(StoreError::Refused(why)) => {
                self.tell(why, followed, out);
                return None;
            }
        };
        self.look_at(status.member_id);
        if self.several {
            let why = "one member after the other answers: name the one on this host, not a load balancer or a proxy".to_owned();
            self.tell(why, followed, out);
            return None;
        }
        if self.unsettled.is_some() {
            return None;
        }
        if self.told.take().is_some() && followed {
            out.report(Report::OwnMemberAnswers);
        }
        Some(MemberRecord {
            id: format!("{:x}", status.member_id),
            leader: status.is_leader,
            term: status.term,
        })
    }

    fn look_at(&mut self, id: u64) {
        match self.last.replace(id) {
            None => {}
            Some(last) if last == id => {
                self.unsettled = self.unsettled.map(|times| times + 1);
                if self.unsettled.is_some_and(|times| times >= BELIEVED_AFTER) {
                    (self.unsettled, self.several) = (None, false);
                }
            }
            Some(_) => {
                self.several |= self.unsettled.is_some();
                self.unsettled = Some(0);
            }
        }
    }

    fn tell(&mut self, why: String, followed: bool, out: &mut Outbox) {
        if self.told.as_ref() != Some(&why) {
            if followed {
                out.report(Report::NoOwnMember { why: why.clone() });
            }
            self.told = Some(why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Action;

    /// Member 1 leads.
    fn status(id: u64) -> Result<MemberStatus, StoreError> {
        Ok(MemberStatus { member_id: id, is_leader: id == 1, term: 3 })
    }

    fn reports(out: &mut Outbox) -> Vec<String> {
        let reports = std::iter::from_fn(|| out.pop()).filter_map(|action| match action {
            Action::Report(report) => Some(report.to_string()),
            _ => None,
        });
        reports.collect()
    }

    /// Whether it is believed to lead, at each of these answers; and what was told.
    fn leads(ids: &[u64]) -> (Vec<bool>, Vec<String>) {
        let (mut own, mut out) = (OwnMember::default(), Outbox::default());
        let mut ask =
            |id: &u64| own.answered(status(*id), true, &mut out).is_some_and(|m| m.leader);
        let leads = ids.iter().map(&mut ask).collect();
        (leads, reports(&mut out))
    }

    #[test]
    fn one_member_is_believed_at_once_and_always() {
        assert_eq!(leads(&[1, 1, 1]), (vec![true; 3], vec![]));
    }

    #[test]
    fn members_that_answer_in_turn_do_not_lead_and_it_is_told_once() {
        let (leads, told) = leads(&[2, 1, 3, 2, 1, 1, 3, 1, 1, 1]);
        assert_eq!(leads, vec![false; 10]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("one member after the other"), "{told:?}");
    }

    #[test]
    fn a_member_that_takes_the_place_of_another_is_believed_when_it_stays() {
        let mut ids = vec![2, 2, 1];
        ids.extend([1; BELIEVED_AFTER as usize]);
        let (leads, told) = leads(&ids);
        assert!(leads[..leads.len() - 1].iter().all(|leads| !leads));
        assert_eq!(leads.last(), Some(&true));
        assert!(told.is_empty(), "somebody replaced it: {told:?}");
    }

    #[test]
    fn when_one_of_several_answers_for_long_it_is_believed_again() {
        let mut ids = vec![1, 2, 1];
        ids.extend([1; BELIEVED_AFTER as usize]);
        let (leads, told) = leads(&ids);
        assert_eq!(leads.iter().filter(|leads| **leads).count(), 2, "the first, and the last");
        assert_eq!((leads.last(), told.len()), (Some(&true), 2));
        assert!(told[1].contains("answers for itself again"), "{told:?}");
    }

    #[test]
    fn what_is_no_member_is_told_once_and_only_where_a_vip_follows_it() {
        let (mut own, mut out) = (OwnMember::default(), Outbox::default());
        let refused = || Err(StoreError::Refused("a proxy".into()));
        for followed in [true, true] {
            assert_eq!(own.answered(refused(), followed, &mut out), None);
        }
        assert_eq!(reports(&mut out).len(), 1);
        for _ in 0..2 {
            assert!(own.answered(status(1), true, &mut out).is_some());
        }
        assert_eq!(reports(&mut out).len(), 1, "its end, once");
        let mut unfollowed = OwnMember::default();
        unfollowed.answered(refused(), false, &mut out);
        assert!(reports(&mut out).is_empty());
    }
}
