//! A rule of nftables, as steps: what a packet must be like, and what is done with it then.

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute,
    Lookup, Meta, MetaKey, NfTablesMessage, Operator, Payload, Register, RuleAttribute,
    RuleMessage, Verdict, VerdictAttribute,
};

use super::nft::{Chain, Family, Message, message};

const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
const LOOKUP_INVERTED: u32 = 1;
const NETWORK_HEADER: u32 = 1;

/// What is known of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field {
    /// In the network header, or in the ARP packet: offset and length in bytes.
    Network(u32, u32),
    /// Beside it.
    Meta(MetaKey),
}

/// A step of a rule. It goes on to the next one only where this one holds.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// The field is this value.
    Is(Field, Vec<u8>),
    /// The field is another value.
    IsNot(Field, Vec<u8>),
    /// The fields, one after the other, are in the set.
    In(&'static [Field], &'static str),
    /// The fields, one after the other, are not in the set.
    NotIn(&'static [Field], &'static str),
    /// What is beside the packet, a number of 32 bits, has this bit.
    Has(MetaKey, u32),
    /// What is beside the packet becomes this value.
    Set(MetaKey, Vec<u8>),
    /// What is beside the packet, a number of 32 bits, gets this bit.
    Add(MetaKey, u32),
    /// What is beside the packet, a number of 32 bits, loses this bit.
    Remove(MetaKey, u32),
    /// The packet is dropped.
    Drop,
    /// The chain lets the packet pass; those that come later may not.
    Accept,
}

/// Appends a rule to the chain.
pub(super) fn add_rule(family: Family, table: &str, chain: Chain, steps: &[Step]) -> Message {
    let expressions = steps.iter().flat_map(Step::expressions).map(ListAttribute::from);
    let attributes = vec![
        RuleAttribute::Table(table.into()),
        RuleAttribute::Chain(chain.name.into()),
        RuleAttribute::Expressions(
            expressions.collect::<Vec<ListAttribute<ExpressionAttribute>>>(),
        ),
    ];
    let inner = NfTablesMessage::NewRule(RuleMessage { attributes });
    message(family, inner, NLM_F_CREATE | NLM_F_APPEND)
}

impl Step {
    fn expressions(&self) -> Vec<Expressions> {
        match self {
            Step::Is(field, value) => vec![load(*field), compare(Operator::Equal, value)],
            Step::IsNot(field, value) => vec![load(*field), compare(Operator::NotEqual, value)],
            Step::In(fields, set) => looked_up(fields, set, 0),
            Step::NotIn(fields, set) => looked_up(fields, set, LOOKUP_INVERTED),
            Step::Has(key, bit) => {
                let is_there = compare(Operator::Equal, &bit.to_ne_bytes());
                vec![load(Field::Meta(*key)), bitwise(*bit, 0), is_there]
            }
            Step::Set(key, value) => vec![immediate(value), store(*key)],
            Step::Add(key, bit) => {
                vec![load(Field::Meta(*key)), bitwise(!*bit, *bit), store(*key)]
            }
            Step::Remove(key, bit) => {
                vec![load(Field::Meta(*key)), bitwise(!*bit, 0), store(*key)]
            }
            Step::Drop => vec![verdict(NF_DROP)],
            Step::Accept => vec![verdict(NF_ACCEPT)],
        }
    }
}

fn compare(operator: Operator, value: &[u8]) -> Expressions {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(Register::Reg1),
        Cmp::Op(operator),
        Cmp::Data(DataAttribute::Value(value.into())),
    ])
}

/// Each field has a register of its own: only the last one may be shorter than its 16 bytes.
fn looked_up(fields: &[Field], set: &str, flags: u32) -> Vec<Expressions> {
    let registers = [Register::Reg1, Register::Reg2];
    let mut all: Vec<_> =
        fields.iter().zip(registers).map(|(field, register)| load_into(register, *field)).collect();
    all.push(Expressions::Lookup(vec![
        Lookup::Set(set.into()),
        Lookup::SourceRegister(Register::Reg1),
        Lookup::Flags(flags),
    ]));
    all
}

fn load(field: Field) -> Expressions {
    load_into(Register::Reg1, field)
}

fn load_into(register: Register, field: Field) -> Expressions {
    match field {
        Field::Network(offset, len) => Expressions::Payload(vec![
            Payload::DestinationRegister(register),
            Payload::Base(NETWORK_HEADER),
            Payload::Offset(offset),
            Payload::Len(len),
        ]),
        Field::Meta(key) => {
            Expressions::Meta(vec![Meta::DestinationRegister(register), Meta::Key(key)])
        }
    }
}

fn store(key: MetaKey) -> Expressions {
    Expressions::Meta(vec![Meta::Key(key), Meta::SourceRegister(Register::Reg1)])
}

/// The bits that are in `mask`, and those of `xor` turned round.
fn bitwise(mask: u32, xor: u32) -> Expressions {
    let number = |number: u32| DataAttribute::Value(number.to_ne_bytes().into());
    Expressions::Bitwise(vec![
        Bitwise::SourceRegister(Register::Reg1),
        Bitwise::DestinationRegister(Register::Reg1),
        Bitwise::Length(4),
        Bitwise::Mask(number(mask)),
        Bitwise::Xor(number(xor)),
    ])
}

fn immediate(value: &[u8]) -> Expressions {
    Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Reg1),
        Immediate::Data(DataAttribute::Value(value.into())),
    ])
}

fn verdict(code: u32) -> Expressions {
    Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(DataAttribute::Verdict(vec![VerdictAttribute::Code(Verdict::Other(code))])),
    ])
}
