//! nftables messages, in the words that the fence needs: tables, chains, sets, elements, rules.

use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_core::{
    DefaultNla, NLM_F_APPEND, NLM_F_CREATE, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NlasIterator, ParseableParametrized,
};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Cmp, DataAttribute, ExpressionAttribute, Expressions,
    GenAttribute, GenMessage, Hook, HookNumber, Immediate, ListAttribute, Lookup, Meta, MetaKey,
    NfTablesMessage, Operator, Payload, Register, RuleAttribute, RuleMessage, SetAttribute,
    SetElementAttribute, SetElementList, SetElementMessage, SetFlags, SetMessage, TableAttribute,
    TableMessage, Verdict, VerdictAttribute,
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
const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
/// Before connection tracking, so that what is dropped leaves no trace there.
const PRIORITY_RAW: i32 = -300;
const LOOKUP_INVERTED: u32 = 1;
/// An element in a message takes up to 28 bytes, and attributes end at 64 KiB.
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

    /// The number of the hook on the way in; the one on the way out.
    fn hook(self, hook: Direction) -> u32 {
        match (self, hook) {
            (Family::Inet, Direction::Input) => 1,
            (Family::Inet, Direction::Output) => 3,
            (Family::Arp, Direction::Input) => 0,
            (Family::Arp, Direction::Output) => 1,
        }
    }
}

/// Which way a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    /// To this host.
    Input,
    /// From this host.
    Output,
}

impl Direction {
    pub(super) const BOTH: [Direction; 2] = [Direction::Input, Direction::Output];

    pub(super) fn chain(self) -> &'static str {
        match self {
            Direction::Input => "input",
            Direction::Output => "output",
        }
    }
}

/// What a set's elements are; the numbers are those by which `nft` knows the types.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SetKind {
    /// IPv4 addresses.
    Ipv4,
    /// IPv6 addresses.
    Ipv6,
    /// Protocol families, with timeouts.
    Gate,
}

fn message(family: Family, inner: NfTablesMessage, flags: u16) -> Message {
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
pub(super) fn add_chain(family: Family, table: &str, direction: Direction) -> Message {
    let attributes = vec![
        ChainAttribute::Table(table.into()),
        ChainAttribute::Name(direction.chain().into()),
        ChainAttribute::Hook(vec![
            Hook::Number(HookNumber::Other(family.hook(direction))),
            Hook::Priority(PRIORITY_RAW.cast_unsigned()),
        ]),
        ChainAttribute::Policy(NF_ACCEPT),
        ChainAttribute::Type("filter".into()),
    ];
    message(family, NfTablesMessage::NewChain(ChainMessage { attributes }), NLM_F_CREATE)
}

/// Deletes the chain's rules.
pub(super) fn flush_chain(family: Family, table: &str, direction: Direction) -> Message {
    let attributes =
        vec![RuleAttribute::Table(table.into()), RuleAttribute::Chain(direction.chain().into())];
    message(family, NfTablesMessage::DeleteRule(RuleMessage { attributes }), 0)
}

/// Creates the set unless it is there. `id` names it within the transaction.
pub(super) fn add_set(family: Family, table: &str, name: &str, kind: SetKind, id: u32) -> Message {
    let (key_type, key_len) = match kind {
        SetKind::Gate => (2, 1),
        SetKind::Ipv4 => (7, 4),
        SetKind::Ipv6 => (8, 16),
    };
    let flags = if kind == SetKind::Gate { SetFlags::Timeout } else { SetFlags::empty() };
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

/// Gives the value of each attribute of that kind to `found`.
fn for_each(attributes: &[u8], kind: u16, mut found: impl FnMut(&[u8])) {
    for nla in NlasIterator::new(attributes).flatten().filter(|nla| nla.kind() == kind) {
        found(nla.value());
    }
}

/// The key that stands for an address.
pub(super) fn key(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
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

/// Where a field of a packet is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field {
    /// In the network header, or in the ARP packet: offset and length in bytes.
    Network(u32, u32),
    /// In the transport header: offset and length in bytes.
    Transport(u32, u32),
    /// The protocol family that the packet is seen in.
    Family,
    /// The protocol above IP.
    Protocol,
}

/// A step of a rule; a rule goes on only where every step holds.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// The field is this value.
    Is(Field, Vec<u8>),
    /// The field is in the set.
    In(Field, &'static str),
    /// The field is not in the set.
    NotIn(Field, &'static str),
}

impl Step {
    fn expressions(&self) -> [ListAttribute<ExpressionAttribute>; 2] {
        let field = match self {
            Step::Is(field, _) | Step::In(field, _) | Step::NotIn(field, _) => *field,
        };
        let test = match self {
            Step::Is(_, value) => Expressions::Cmp(vec![
                Cmp::SourceRegister(Register::Reg1),
                Cmp::Op(Operator::Equal),
                Cmp::Data(DataAttribute::Value(value.clone())),
            ]),
            Step::In(_, set) => lookup(set, 0),
            Step::NotIn(_, set) => lookup(set, LOOKUP_INVERTED),
        };
        [load(field).into(), test.into()]
    }
}

fn lookup(set: &str, flags: u32) -> Expressions {
    Expressions::Lookup(vec![
        Lookup::Set(set.into()),
        Lookup::SourceRegister(Register::Reg1),
        Lookup::Flags(flags),
    ])
}

fn load(field: Field) -> Expressions {
    let payload = |base, offset, len| {
        Expressions::Payload(vec![
            Payload::DestinationRegister(Register::Reg1),
            Payload::Base(base),
            Payload::Offset(offset),
            Payload::Len(len),
        ])
    };
    let meta =
        |key| Expressions::Meta(vec![Meta::DestinationRegister(Register::Reg1), Meta::Key(key)]);
    match field {
        Field::Network(offset, len) => payload(1, offset, len),
        Field::Transport(offset, len) => payload(2, offset, len),
        Field::Family => meta(MetaKey::Nfproto),
        Field::Protocol => meta(MetaKey::L4Proto),
    }
}

/// Appends a rule that drops the packets for which every step holds.
pub(super) fn drop_rule(
    family: Family,
    table: &str,
    direction: Direction,
    steps: &[Step],
) -> Message {
    let mut expressions: Vec<_> = steps.iter().flat_map(Step::expressions).collect();
    expressions.push(
        Expressions::Immediate(vec![
            Immediate::DestinationRegister(Register::Verdict),
            Immediate::Data(DataAttribute::Verdict(vec![VerdictAttribute::Code(Verdict::Other(
                NF_DROP,
            ))])),
        ])
        .into(),
    );
    let attributes = vec![
        RuleAttribute::Table(table.into()),
        RuleAttribute::Chain(direction.chain().into()),
        RuleAttribute::Expressions(expressions),
    ];
    let inner = NfTablesMessage::NewRule(RuleMessage { attributes });
    message(family, inner, NLM_F_CREATE | NLM_F_APPEND)
}
