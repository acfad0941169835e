//! What befalls a cluster of PostgreSQL.

use clap::ValueEnum;

/// What befalls it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Fault {
    /// `patronictl switchover`.
    Switchover,
    /// The same, after three others within some minutes.
    FourthSwitchover,
    /// The leader's host loses its power, and is back when another one leads.
    PowerOff,
    /// All of PostgreSQL's processes on the leader are killed.
    PostgresKilled,
    /// Patroni on the leader is stopped, and goes on after 30 s.
    PatroniFrozen,
    /// The leader's host is cut off from everything, for 30 s.
    CutOff,
    /// The same from etcd alone.
    CutFromEtcd,
    /// What keeps the address is stopped on the leader, a switchover follows, and it goes on after 15 s.
    KeeperFrozen,
    /// etcd's leadership moves to another member.
    EtcdLeaderMoved,
    /// All of etcd is stopped for 15 s.
    EtcdAway,
    /// The same while Patroni has `failsafe_mode`.
    EtcdAwayFailsafe,
}

impl Fault {
    /// What it is, for people.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Switchover => "switchover",
            Fault::FourthSwitchover => "fourth switchover within minutes",
            Fault::PowerOff => "leader's host powered off, and on again",
            Fault::PostgresKilled => "PostgreSQL killed",
            Fault::PatroniFrozen => "Patroni stopped (SIGSTOP) for 30 s",
            Fault::CutOff => "leader's host cut off for 30 s",
            Fault::CutFromEtcd => "leader's host cut off from etcd for 30 s",
            Fault::KeeperFrozen => {
                "the address's daemon stopped (SIGSTOP) for 15 s, switchover meanwhile"
            }
            Fault::EtcdLeaderMoved => "etcd's leader moved",
            Fault::EtcdAway => "all of etcd stopped for 15 s",
            Fault::EtcdAwayFailsafe => "the same, with Patroni's `failsafe_mode`",
        }
    }
}
