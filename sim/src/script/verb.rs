//! The verbs: what can befall a cluster, what each is said of, and which world can do it.

use std::fmt;
use std::time::Duration;

/// Where a scenario is played.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum World {
    /// The simulator.
    Simulator,
    /// Real etcd, kernel and network namespaces.
    Lab,
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            World::Simulator => "the simulator",
            World::Lab => "the lab",
        })
    }
}

/// What a verb is said of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Object {
    /// A machine, or all of a site: a host that runs turnip, or one that runs etcd only.
    Machine,
    /// A host that runs turnip, or all of a site.
    Host,
    /// A machine with an etcd member; `leader` for the one that leads.
    Member,
    /// A VIP.
    Vip,
    /// A VIP that follows a key.
    Following,
    /// A check of the configuration.
    Check,
    /// Nothing: `true` is written.
    Nothing,
}

macro_rules! verbs {
    ($($(#[doc = $doc:literal])+ $verb:ident = $word:literal, $object:ident, $worlds:ident,
        [$($needs:literal),*], [$($may:literal),*], $for:ident;)+) => {
        /// What can befall a cluster.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Verb {
            $($(#[doc = $doc])+ $verb,)+
        }

        impl Verb {
            /// All of them.
            pub const ALL: &'static [Verb] = &[$(Verb::$verb,)+];

            /// The word in a file.
            pub fn word(self) -> &'static str {
                match self { $(Verb::$verb => $word,)+ }
            }

            /// What happens, in a sentence.
            pub fn about(self) -> &'static str {
                match self { $(Verb::$verb => concat!($($doc),+).trim_ascii_start(),)+ }
            }

            /// What it is said of.
            pub fn object(self) -> Object {
                match self { $(Verb::$verb => Object::$object,)+ }
            }

            /// The keys that must stand beside it.
            pub fn needs(self) -> &'static [&'static str] {
                match self { $(Verb::$verb => &[$($needs),*],)+ }
            }

            /// The keys that may stand beside it.
            pub fn may(self) -> &'static [&'static str] {
                match self { $(Verb::$verb => &[$($may),*],)+ }
            }

            /// How long it lasts where nothing is said.
            pub fn usually(self) -> Usual {
                match self { $(Verb::$verb => Usual::$for,)+ }
            }

            /// Whether a world can do it.
            pub fn is_in(self, world: World) -> bool {
                let only = match self { $(Verb::$verb => Only::$worlds,)+ };
                match only {
                    Only::Both => true,
                    Only::Simulator => world == World::Simulator,
                }
            }
        }
    };
}

/// How long something lasts where nothing is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Usual {
    /// To the end.
    ToTheEnd,
    /// Until systemd starts the daemon again: 0.5 s.
    Restart,
    /// It has no length, and `for` is refused.
    Moment,
}

impl Usual {
    /// The length; none to the end.
    pub fn length(self) -> Option<Duration> {
        match self {
            Usual::ToTheEnd => None,
            Usual::Restart => Some(Duration::from_millis(500)),
            Usual::Moment => Some(Duration::ZERO),
        }
    }
}

impl Object {
    /// What may be written for it, in words.
    pub fn told(self) -> &'static str {
        match self {
            Object::Machine => "machine",
            Object::Host => "host",
            Object::Member => "member",
            Object::Vip => "VIP",
            Object::Following => "VIP that follows a key",
            Object::Check => "check",
            Object::Nothing => "`true`",
        }
    }
}

/// All verbs as a table in Markdown.
pub fn markdown() -> String {
    let mut text = String::from(
        "| verb | said of | beside it | without `for` | what happens |\n|---|---|---|---|---|\n",
    );
    for verb in Verb::ALL {
        let needs = verb.needs().iter().map(|key| format!("`{key}`"));
        let may = verb.may().iter().map(|key| format!("*`{key}`*"));
        let keys: Vec<String> = needs.chain(may).collect();
        let usual = match verb.usually() {
            Usual::ToTheEnd => "to the end",
            Usual::Restart => "0.5 s",
            Usual::Moment => "a moment; no `for`",
        };
        let only = match verb.is_in(World::Lab) {
            true => "",
            false => " Only in the simulator.",
        };
        let (word, of, about) = (verb.word(), verb.object().told(), verb.about());
        text += &format!("| `{word}` | {of} | {} | {usual} | {about}{only} |\n", keys.join(", "));
    }
    text
}

enum Only {
    Both,
    Simulator,
}

verbs! {
    /// A machine hears nobody and is heard by nobody.
    Isolate = "isolate", Machine, Both, [], [], ToTheEnd;
    /// Nothing gets from one machine, or site, to another one, both ways.
    Cut = "cut", Machine, Both, ["from"], [], ToTheEnd;
    /// Nothing gets from a machine to another one, or to any; what these send arrives.
    CutOneWay = "cut_one_way", Machine, Both, [], ["to"], ToTheEnd;
    /// A host's turnip reaches no member of etcd; all else gets through.
    CutFromStore = "cut_from_store", Host, Both, [], [], ToTheEnd;
    /// Heartbeats from and to a host are lost, of all other hosts or of one.
    CutFromPeers = "cut_from_peers", Host, Both, [], ["from"], ToTheEnd;
    /// A member hears no other member, and clients reach it.
    CutMember = "cut_member", Member, Both, [], [], ToTheEnd;
    /// Of what a machine sends and is sent, a part is lost.
    Lossy = "lossy", Machine, Both, ["loss"], ["to"], ToTheEnd;
    /// What a machine sends takes longer, and what it is sent.
    Slow = "slow", Machine, Both, ["by"], ["to"], ToTheEnd;
    /// A machine's uplink goes down and up in turns.
    Flap = "flap", Machine, Both, ["down", "up"], [], ToTheEnd;
    /// A host's interface goes down, the only one that it has.
    LinkDown = "link_down", Host, Both, [], [], ToTheEnd;
    /// turnip is killed, and started again.
    Kill = "kill", Host, Both, [], [], Restart;
    /// turnip is stopped in an orderly way, and started again.
    Stop = "stop", Host, Both, [], [], Restart;
    /// turnip ends and leaves all to the next process, as for an upgrade.
    Leave = "leave", Host, Both, [], [], Restart;
    /// turnip is stopped by a signal.
    Freeze = "freeze", Host, Both, [], [], ToTheEnd;
    /// A host is paused as a virtual machine is: its clock stands still too.
    Pause = "pause", Host, Simulator, [], [], ToTheEnd;
    /// A host is suspended: its clock goes on, and the kernel's timers do not.
    Suspend = "suspend", Host, Simulator, [], [], ToTheEnd;
    /// A machine loses its power.
    PowerOff = "power_off", Machine, Both, [], [], ToTheEnd;
    /// A host is rebooted: turnip stops in an orderly way, a second later the host is off.
    Reboot = "reboot", Host, Both, [], [], ToTheEnd;
    /// A member of etcd is killed, and started again.
    StopEtcd = "stop_etcd", Member, Both, [], [], ToTheEnd;
    /// A member of etcd is stopped by a signal.
    FreezeEtcd = "freeze_etcd", Member, Both, [], [], ToTheEnd;
    /// Each write to a member's disk takes longer.
    SlowDisk = "slow_disk", Member, Both, ["by"], [], ToTheEnd;
    /// The leader of etcd gives leadership to another member, or to the one on a machine.
    MoveLeader = "move_leader", Nothing, Both, [], ["to"], Moment;
    /// etcd's quota is full: it refuses all writes.
    FillEtcd = "fill_etcd", Nothing, Both, [], [], ToTheEnd;
    /// etcd forgets its history.
    CompactEtcd = "compact_etcd", Nothing, Both, [], [], Moment;
    /// An operator makes a backup of etcd.
    BackUpEtcd = "back_up_etcd", Nothing, Both, [], [], Moment;
    /// An operator stops etcd and restores it from the newest backup, or empty where there is none.
    RestoreEtcd = "restore_etcd", Nothing, Both, [], [], ToTheEnd;
    /// A host's certificate for etcd has expired: no member lets it in.
    ExpireCertificate = "expire_certificate", Host, Simulator, [], [], ToTheEnd;
    /// An operator drains a host.
    Drain = "drain", Host, Both, [], [], ToTheEnd;
    /// An operator takes the drain of a host back.
    Undrain = "undrain", Host, Both, [], [], Moment;
    /// An operator pins a VIP to a host.
    Pin = "pin", Vip, Both, ["to"], [], ToTheEnd;
    /// The key that a VIP follows names another host than the first, or nobody where none is said.
    MoveKey = "move_key", Following, Both, [], ["to"], ToTheEnd;
    /// A host reads its file again, which has another weight, or another priority for all its VIPs.
    Reload = "reload", Host, Both, [], ["weight", "priority"], ToTheEnd;
    /// Somebody takes a VIP's address away where it is, or on one host.
    RemoveAddress = "remove_address", Vip, Both, [], ["on"], Moment;
    /// Somebody puts a VIP's address on a host.
    AddAddress = "add_address", Vip, Both, ["on"], [], Moment;
    /// Somebody flushes all rules of nftables, turnip's too.
    FlushRules = "flush_rules", Host, Both, [], [], Moment;
    /// A check of the configuration fails on a host.
    FailCheck = "fail_check", Check, Both, ["on"], [], ToTheEnd;
    /// A host's clock runs wrong by a part of true time.
    Drift = "drift_clock", Host, Simulator, ["by"], [], ToTheEnd;
    /// NTP makes the kernel's timers faster than the host's clock.
    Slew = "slew_clock", Host, Simulator, ["by"], [], ToTheEnd;
    /// What a host hears on its watch is late.
    DelayWatch = "delay_watch", Host, Simulator, ["by"], [], ToTheEnd;
    /// The kernel takes longer to do what turnip asks it.
    SlowNetlink = "slow_netlink", Host, Simulator, ["by"], [], ToTheEnd;
}

impl Verb {
    /// The verb of a word.
    pub fn of(word: &str) -> Option<Verb> {
        Verb::ALL.iter().copied().find(|verb| verb.word() == word)
    }

    /// The world that alone can do it, in words; both, for one that both can.
    pub fn only_in(self) -> &'static str {
        match (self.is_in(World::Simulator), self.is_in(World::Lab)) {
            (true, false) => "the simulator",
            (false, true) => "the lab",
            _ => "either world",
        }
    }

    /// As it is said: `cut from store`.
    pub fn said(self) -> String {
        self.word().replace('_', " ")
    }
}
