//! The processes of etcd's members.

use crate::time::True;
use crate::world::event::{Event, MemberEvent};
use crate::world::ids::{HostId, MemberId};
use crate::world::net::{Net, Plane, Site};

/// One member's process.
pub struct Member {
    /// Where it runs.
    pub site: Site,
    /// It runs.
    pub up: bool,
    /// It, or its machine, is stopped.
    pub paused: bool,
    /// Since when it is, or was for the last time.
    pub paused_at: True,
    /// Counts its crashes.
    pub epoch: u32,
    /// What its disk takes longer than usual, in ns.
    pub disk_slow: u64,
    /// What happened to it while it was paused.
    pub deferred: Vec<Event>,
}

/// All of them.
pub struct Members(Vec<Member>);

impl Members {
    /// They run at these sites.
    pub fn new(sites: impl IntoIterator<Item = Site>) -> Self {
        let member = |site| Member {
            site,
            up: true,
            paused: false,
            paused_at: 0,
            epoch: 0,
            disk_slow: 0,
            deferred: Vec::new(),
        };
        Members(sites.into_iter().map(member).collect())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// One of them.
    pub fn get(&self, member: MemberId) -> &Member {
        &self.0[member]
    }

    /// One of them, to change it.
    pub fn get_mut(&mut self, member: MemberId) -> &mut Member {
        &mut self.0[member]
    }

    /// Something that happens to the member as it is now, and not after a crash.
    pub fn event(&self, member: MemberId, event: MemberEvent) -> Event {
        Event::Member { member, epoch: self.0[member].epoch, event }
    }

    /// Whether a connection between a host and one life of a member carries traffic both ways.
    pub fn is_connected(&self, member: MemberId, epoch: u32, host: HostId, net: &Net) -> bool {
        let member = &self.0[member];
        member.up
            && !member.paused
            && member.epoch == epoch
            && net.reaches(Plane::Client, member.site, host)
            && net.reaches(Plane::Client, host, member.site)
    }
}
