//! A netlink socket to netfilter: transactions with their answers, and dumps.
//!
//! No library that is kept carries nftables' transactions out: the messages come from one, and
//! what goes around them is here. Addresses and links go through rtnetlink.
//!
//! The kernel handles a request within the call that sends it, so the answers are there when the
//! call returns. These calls block: the thread that owns the socket is there for that.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
    NetlinkBuffer,
};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};

use super::nft::Message;
use super::refusal::{MESSAGE_HEADER, Refusal};
use super::route::enlarge;

/// Bytes of the socket's buffers: a batch of 10,000 set elements, and its answers, fit.
const SOCKET_BUFFER: usize = 4 << 20;
/// Bytes of one read; the kernel never sends more at once.
const READ_BUFFER: usize = 64 << 10;
/// How often a dump that changed under way is begun anew.
const DUMP_ATTEMPTS: usize = 8;

/// A socket for requests.
pub(super) struct Channel {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Channel {
    /// Opens a socket.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // An answer need not carry the request, but may say what was wrong with it. Kernels
        // before 4.12 know neither, and do without.
        let _ = socket.set_cap_ack(true);
        let _ = socket.set_ext_ack(true);
        enlarge(&socket, SOCKET_BUFFER);
        let _ = setsockopt(&socket, sockopt::SndBufForce, &SOCKET_BUFFER)
            .or_else(|_| setsockopt(&socket, sockopt::SndBuf, &SOCKET_BUFFER));
        Ok(Channel { socket, sequence: 0, buffer: Vec::with_capacity(READ_BUFFER) })
    }

    /// Sends the message, and gives the kernel's answer to it.
    ///
    /// # Errors
    /// When the socket fails: then what became of the message is unknown.
    pub fn request(&mut self, message: Message) -> io::Result<Result<(), Refusal>> {
        let sequence = self.send(vec![message], |_| NLM_F_ACK)?;
        loop {
            let mut answer = None;
            self.receive(|message| {
                if message.sequence_number() == sequence {
                    answer = answer.take().or_else(|| parse_answer(message));
                }
            })?;
            if let Some(answer) = answer {
                return Ok(answer);
            }
        }
    }

    /// Sends a request that is answered by one message: its type and its payload.
    ///
    /// # Errors
    /// When the socket fails, or the kernel refuses.
    pub fn ask(&mut self, message: Message) -> io::Result<(u16, Vec<u8>)> {
        let sequence = self.send(vec![message], |_| 0)?;
        let mut answer = None;
        loop {
            self.receive(|message| {
                if message.sequence_number() == sequence && answer.is_none() {
                    answer = Some(match parse_answer(message) {
                        Some(Err(refusal)) => Err(refusal.into()),
                        _ => Ok((message.message_type(), message.payload().to_vec())),
                    });
                }
            })?;
            if let Some(answer) = answer {
                return answer;
            }
        }
    }

    /// Sends the messages as one transaction, whose first and last message are its brackets.
    /// The refusals come with the place of the message refused; none means that it all holds.
    ///
    /// # Errors
    /// When the socket fails: then what became of the transaction is unknown.
    pub fn transact(&mut self, messages: Vec<Message>) -> io::Result<Vec<(usize, Refusal)>> {
        let count = messages.len();
        // The answers come when the transaction is through, in the order of its messages: the
        // last but one answers always, and so ends them. A refusal of the whole names the first.
        let first = self.send(messages, |place| if place + 2 == count { NLM_F_ACK } else { 0 })?;
        let mut refusals = Vec::new();
        let mut ended = false;
        while !ended {
            self.receive(|message| {
                let place = message.sequence_number().wrapping_sub(first) as usize;
                let Some(answer) = parse_answer(message).filter(|_| place < count) else { return };
                if let Err(refusal) = answer {
                    refusals.push((place, refusal));
                }
                ended |= place == 0 || place + 2 == count;
            })?;
        }
        Ok(refusals)
    }

    /// Gives every message of a dump to `each`: its type and its payload.
    ///
    /// # Errors
    /// When the kernel refuses, or what is dumped changes all the time.
    pub fn dump(&mut self, message: &Message) -> io::Result<Vec<(u16, Vec<u8>)>> {
        for _ in 0..DUMP_ATTEMPTS {
            let first = self.send(vec![message.clone()], |_| NLM_F_DUMP)?;
            let mut found = Vec::new();
            let mut ended = None;
            let mut torn = false;
            while ended.is_none() {
                self.receive(|message| {
                    if message.sequence_number() != first {
                        return;
                    }
                    torn |= message.flags() & NLM_F_DUMP_INTR != 0;
                    match message.message_type() {
                        NLMSG_DONE => ended = Some(Ok(())),
                        NLMSG_ERROR => ended = parse_answer(message),
                        kind => found.push((kind, message.payload().to_vec())),
                    }
                })?;
            }
            if let Some(Err(refusal)) = ended {
                return Err(refusal.into());
            }
            if !torn {
                return Ok(found);
            }
        }
        Err(io::Error::other("what was listed changed too often"))
    }

    /// Sends the messages in one call; gives the sequence number of the first.
    fn send(&mut self, messages: Vec<Message>, flags: impl Fn(usize) -> u16) -> io::Result<u32> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        for (place, mut message) in messages.into_iter().enumerate() {
            self.sequence = self.sequence.wrapping_add(1);
            message.header.sequence_number = self.sequence;
            message.header.flags |= NLM_F_REQUEST | flags(place);
            message.finalize();
            let start = bytes.len();
            bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
            message.serialize(&mut bytes[start..]);
        }
        loop {
            match self.socket.send(&bytes, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(_) => return Ok(first),
            }
        }
    }

    /// Waits for what the kernel sends, and gives its messages to `each`.
    ///
    /// # Errors
    /// When the socket fails, or what comes over it is not netlink.
    fn receive(&mut self, each: impl FnMut(&NetlinkBuffer<&[u8]>)) -> io::Result<()> {
        self.buffer.clear();
        loop {
            match self.socket.recv(&mut self.buffer, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(_) => break,
            }
        }
        for_each_message(&self.buffer, each)
    }
}

/// Splits what was read into messages.
pub(super) fn for_each_message(
    mut bytes: &[u8],
    mut each: impl FnMut(&NetlinkBuffer<&[u8]>),
) -> io::Result<()> {
    while bytes.len() >= MESSAGE_HEADER {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, format!("{error}"));
        let message = NetlinkBuffer::new_checked(bytes).map_err(invalid)?;
        each(&message);
        let length = (message.length() as usize).next_multiple_of(4).max(MESSAGE_HEADER);
        bytes = bytes.get(length..).unwrap_or_default();
    }
    Ok(())
}

/// The answer that a message is, if it is one.
pub(super) fn parse_answer(message: &NetlinkBuffer<&[u8]>) -> Option<Result<(), Refusal>> {
    if message.message_type() != NLMSG_ERROR {
        return None;
    }
    let payload = message.payload();
    let code = payload.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    if code == 0 {
        return Some(Ok(()));
    }
    let explains = message.flags() & NLM_F_ACK_TLVS != 0;
    let attributes = payload.get(4 + MESSAGE_HEADER..).filter(|_| explains);
    Some(Err(Refusal::new(code, attributes.unwrap_or_default())))
}
