//! nftables messages, in the words that the fence needs: tables, chains, sets, elements.

use std::time::Duration;

use netlink_packet_core::{
    DefaultNla, NLM_F_CREATE, NetlinkHeader, NetlinkMessage, NetlinkPayload, NlasIterator,
    ParseableParametrized,
};
use netlink_packet_netfilter::nftables::{
    self, ChainAttribute, ChainMessage, DataAttribute, GenAttribute, GenMessage, HookNumber,
    ListAttribute, NfTablesMessage, RuleAttribute, RuleMessage, SetAttribute, SetElementAttribute,
    SetElementList, SetElementMessage, SetFlags, SetMessage, TableAttribute, TableMessage,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};

/// A message to nftables.
pub(super) type Message = NetlinkMessage<NetfilterMessage>;

/// The number of nftables among netfilter's subsystems; batches name it.
const SUBSYSTEM: u16 = 10;
/// The library knows the message that begins a batch without its attribute: which generation of
/// the rules is expected.
const BATCH_BEGIN: u8 = 16;
const BATCH_GENERATION: u16 = 1;
/// Bytes of netfilter's own header, before the attributes.
const HEADER: usize = 4;
const NF_ACCEPT: u32 = 1;
/// An element in a message takes up to 56 bytes, and attributes end at 64 KiB.
const ELEMENTS_PER_MESSAGE: usize = 1000;

/// One of the two tables of the fence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Family {
    /// IPv4, IPv6 and neighbour discovery.
    Inet,
    /// ARP.
    Arp,
}

impl Family {
    pub(super) const BOTH: [Family; 2] = [Family::Inet, Family::Arp];

    fn header(self) -> NetfilterHeader {
        let family = match self {
            Family::Inet => NetfilterProtoFamily::Inet,
            Family::Arp => NetfilterProtoFamily::ARP,
        };
        NetfilterHeader::new(family, 0, 0)
    }

    /// The number of the hook. ARP has two only: on the way in and on the way out.
    fn number_of(self, hook: Hook) -> u32 {
        match (self, hook) {
            (Family::Inet, Hook::Prerouting) => 0,
            (Family::Inet, Hook::Input) => 1,
            (Family::Inet, Hook::Output) => 3,
            (Family::Inet, Hook::Postrouting) => 4,
            (Family::Arp, Hook::Prerouting | Hook::Input) => 0,
            (Family::Arp, Hook::Output | Hook::Postrouting) => 1,
        }
    }
}

/// Where a packet is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hook {
    /// It has arrived, for this host or to be forwarded.
    Prerouting,
    /// It is for this host.
    Input,
    /// It is from this host.
    Output,
    /// It leaves, from this host or forwarded.
    Postrouting,
}

/// A chain on a hook.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Chain {
    /// Its name.
    pub(super) name: &'static str,
    /// Its hook.
    pub(super) hook: Hook,
    /// Its place among all that is on the hook: the least goes first.
    pub(super) priority: i32,
}

/// What a set's elements are; the numbers are those by which `nft` knows the types.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SetKind {
    /// IPv4 addresses.
    Ipv4,
    /// IPv6 addresses.
    Ipv6,
    /// IPv6 addresses, each on the interface of a name.
    Ipv6OnInterface,
    /// Protocol families, with timeouts.
    Families,
    /// Protocols by their number in Ethernet's header, with timeouts.
    EtherTypes,
}

impl SetKind {
    fn has_timeouts(self) -> bool {
        matches!(self, SetKind::Families | SetKind::EtherTypes)
    }

    /// The number of the keys' type, and their length in bytes.
    fn key(self) -> (u32, u32) {
        const ADDRESS: u32 = 8;
        const INTERFACE_NAME: u32 = 41;
        const BITS_PER_TYPE: u32 = 6;
        match self {
            SetKind::Families => (2, 1),
            SetKind::EtherTypes => (10, 2),
            SetKind::Ipv4 => (7, 4),
            SetKind::Ipv6 => (ADDRESS, 16),
            SetKind::Ipv6OnInterface => (INTERFACE_NAME << BITS_PER_TYPE | ADDRESS, 32),
        }
    }
}

/// A message about something of the family.
pub(super) fn message(family: Family, inner: NfTablesMessage, flags: u16) -> Message {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let inner = NetfilterMessage::new(family.header(), inner);
    NetlinkMessage::new(header, NetlinkPayload::InnerMessage(inner))
}

/// The messages as one transaction, which the kernel refuses with ERESTART when the generation of
/// the rules is not the `expected` one. Kernels before 4.11 do not look at that.
pub(super) fn transaction(messages: Vec<Message>, expected: Option<u32>) -> Vec<Message> {
    let bracket = |control| {
        let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, SUBSYSTEM);
        let inner = NetfilterMessage::new(header, NetfilterMessageInner::None(control));
        NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(inner))
    };
    let begin = match expected {
        None => ControlMessage::BatchBegin,
        Some(generation) => ControlMessage::Other {
            message_type: BATCH_BEGIN,
            attributes: vec![DefaultNla::new(BATCH_GENERATION, generation.to_be_bytes().into())],
        },
    };
    let mut all = Vec::with_capacity(messages.len() + 2);
    all.push(bracket(begin));
    all.extend(messages);
    all.push(bracket(ControlMessage::BatchEnd));
    all
}

/// Creates the table unless it is there.
pub(super) fn add_table(family: Family, table: &str) -> Message {
    let attributes = vec![TableAttribute::Name(table.into())];
    message(family, NfTablesMessage::NewTable(TableMessage { attributes }), NLM_F_CREATE)
}

/// Deletes the table and all that is in it.
pub(super) fn delete_table(family: Family, table: &str) -> Message {
    let attributes = vec![TableAttribute::Name(table.into())];
    message(family, NfTablesMessage::DeleteTable(TableMessage { attributes }), 0)
}

/// Asks for the table.
pub(super) fn get_table(family: Family, table: &str) -> Message {
    let attributes = vec![TableAttribute::Name(table.into())];
    message(family, NfTablesMessage::GetTable(TableMessage { attributes }), 0)
}

/// Creates the chain on its hook unless it is there.
pub(super) fn add_chain(family: Family, table: &str, chain: Chain) -> Message {
    let attributes = vec![
        ChainAttribute::Table(table.into()),
        ChainAttribute::Name(chain.name.into()),
        ChainAttribute::Hook(vec![
            nftables::Hook::Number(HookNumber::Other(family.number_of(chain.hook))),
            nftables::Hook::Priority(chain.priority.cast_unsigned()),
        ]),
        ChainAttribute::Policy(NF_ACCEPT),
        ChainAttribute::Type("filter".into()),
    ];
    message(family, NfTablesMessage::NewChain(ChainMessage { attributes }), NLM_F_CREATE)
}

/// Deletes the chain's rules.
pub(super) fn flush_chain(family: Family, table: &str, chain: Chain) -> Message {
    let attributes =
        vec![RuleAttribute::Table(table.into()), RuleAttribute::Chain(chain.name.into())];
    message(family, NfTablesMessage::DeleteRule(RuleMessage { attributes }), 0)
}

/// Creates the set unless it is there. `id` names it within the transaction.
pub(super) fn add_set(family: Family, table: &str, name: &str, kind: SetKind, id: u32) -> Message {
    let (key_type, key_len) = kind.key();
    let flags = if kind.has_timeouts() { SetFlags::Timeout } else { SetFlags::empty() };
    let attributes = vec![
        SetAttribute::Table(table.into()),
        SetAttribute::Name(name.into()),
        SetAttribute::Flags(flags),
        SetAttribute::KeyType(key_type),
        SetAttribute::KeyLen(key_len),
        SetAttribute::Id(id),
    ];
    message(family, NfTablesMessage::NewSet(SetMessage { attributes }), NLM_F_CREATE)
}

/// Deletes all elements of the set.
pub(super) fn flush_set(family: Family, table: &str, set: &str) -> Message {
    let attributes = vec![SetElementList::Table(table.into()), SetElementList::Set(set.into())];
    message(family, NfTablesMessage::DeleteSetElement(SetElementMessage { attributes }), 0)
}

/// Asks for all elements of the set.
pub(super) fn get_elements(family: Family, table: &str, set: &str) -> Message {
    let attributes = vec![SetElementList::Table(table.into()), SetElementList::Set(set.into())];
    message(family, NfTablesMessage::GetSetElement(SetElementMessage { attributes }), 0)
}

/// Asks for the generation of the rules: a number that each transaction, whoever's, makes greater.
pub(super) fn get_generation() -> Message {
    let inner = NfTablesMessage::GetGen(GenMessage { attributes: Vec::new() });
    message(Family::Inet, inner, 0)
}

/// The generation in an answer.
pub(super) fn parse_generation(kind: u16, payload: &[u8]) -> Option<u32> {
    let message = NetfilterMessage::parse_with_param(payload, kind).ok()?;
    let NetfilterMessageInner::NfTables(NfTablesMessage::NewGen(message)) = message.inner else {
        return None;
    };
    message.attributes.into_iter().find_map(|attribute| match attribute {
        GenAttribute::Id(id) => Some(id),
        _ => None,
    })
}

/// Asks for all tables, for all chains, and for all rules of a table, of the family.
pub(super) fn get_structure(family: Family, table: &str) -> [Message; 3] {
    let rules = RuleMessage { attributes: vec![RuleAttribute::Table(table.into())] };
    let inner = [
        NfTablesMessage::GetTable(TableMessage { attributes: Vec::new() }),
        NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() }),
        NfTablesMessage::GetRule(rules),
    ];
    inner.map(|inner| message(family, inner, 0))
}

/// A table, chain or rule as the kernel tells it, when it is of this table: its attributes.
pub(super) fn of_table<'a>(payload: &'a [u8], table: &str) -> Option<&'a [u8]> {
    // Attribute 1 names the table in all three of them. The header before the attributes has the
    // generation in it.
    const TABLE_NAME: u16 = 1;
    let attributes = payload.get(HEADER..)?;
    let name = NlasIterator::new(attributes).flatten().find(|nla| nla.kind() == TABLE_NAME)?;
    (name.value().strip_suffix(&[0]) == Some(table.as_bytes())).then_some(attributes)
}

/// The keys of a set's elements, as the kernel tells them. The library could parse these messages
/// too, but took seconds for thousands of elements, and a renewal waits for this.
pub(super) fn parse_keys(payload: &[u8]) -> Vec<Vec<u8>> {
    const ELEMENTS: u16 = 3;
    const ELEMENT: u16 = 1;
    const KEY: u16 = 1;
    const VALUE: u16 = 1;
    let mut keys = Vec::new();
    let attributes = payload.get(HEADER..).unwrap_or_default();
    for_each(attributes, ELEMENTS, |elements| {
        for_each(elements, ELEMENT, |element| {
            for_each(element, KEY, |key| for_each(key, VALUE, |value| keys.push(value.to_vec())));
        });
    });
    keys
}

/// The keys of a set's elements that end by themselves, and for how long yet they are there.
pub(super) fn parse_times_left(payload: &[u8]) -> Vec<(Vec<u8>, Duration)> {
    const ELEMENTS: u16 = 3;
    const ELEMENT: u16 = 1;
    const KEY: u16 = 1;
    const VALUE: u16 = 1;
    const EXPIRATION: u16 = 5;
    let mut found = Vec::new();
    let attributes = payload.get(HEADER..).unwrap_or_default();
    for_each(attributes, ELEMENTS, |elements| {
        for_each(elements, ELEMENT, |element| {
            let (mut key, mut left) = (None, None);
            for_each(element, KEY, |one| for_each(one, VALUE, |value| key = Some(value.to_vec())));
            for_each(element, EXPIRATION, |ms| {
                left = ms.first_chunk().map(|ms| Duration::from_millis(u64::from_be_bytes(*ms)));
            });
            found.extend(key.zip(left));
        });
    });
    found
}

/// Gives the value of each attribute of that kind to `found`.
fn for_each(attributes: &[u8], kind: u16, mut found: impl FnMut(&[u8])) {
    for nla in NlasIterator::new(attributes).flatten().filter(|nla| nla.kind() == kind) {
        found(nla.value());
    }
}

fn elements(
    table: &str,
    set: &str,
    keys: &[Vec<u8>],
    timeout_ms: Option<u64>,
) -> SetElementMessage {
    let element = |key: &Vec<u8>| {
        let mut element = vec![SetElementAttribute::Key(DataAttribute::Value(key.clone()))];
        element.extend(timeout_ms.map(SetElementAttribute::Timeout));
        ListAttribute::Element(element)
    };
    let attributes = vec![
        SetElementList::Table(table.into()),
        SetElementList::Set(set.into()),
        SetElementList::Elements(keys.iter().map(element).collect()),
    ];
    SetElementMessage { attributes }
}

/// Adds elements that end after `timeout`, where one is given. An element that is there already
/// stays as it is.
pub(super) fn add_elements(
    family: Family,
    table: &str,
    set: &str,
    keys: &[Vec<u8>],
    timeout: Option<Duration>,
) -> Vec<Message> {
    let timeout_ms = timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    keys.chunks(ELEMENTS_PER_MESSAGE)
        .map(|keys| {
            let inner = NfTablesMessage::NewSetElement(elements(table, set, keys, timeout_ms));
            message(family, inner, NLM_F_CREATE)
        })
        .collect()
}

/// Deletes elements. One that is not there, or has reached its timeout, fails the transaction.
pub(super) fn delete_elements(
    family: Family,
    table: &str,
    set: &str,
    keys: &[Vec<u8>],
) -> Vec<Message> {
    keys.chunks(ELEMENTS_PER_MESSAGE)
        .map(|keys| {
            let inner = NfTablesMessage::DeleteSetElement(elements(table, set, keys, None));
            message(family, inner, 0)
        })
        .collect()
}
