//! Datagrams as bytes.
//!
//! ```text
//! "TRNP"  version  kind  cluster  sender  addressee  body  tag
//!    4       1      1      1+n     1+n      1+n             32   bytes
//! ```
//! A name is its length and its text; numbers are big-endian. The tag is HMAC-SHA256 over all that stands
//! before it. Everything that can be seen without it is looked at first: garbage costs no hash.

use ring::hmac;
use turnip_core::{
    Acknowledgement, ClusterName, Datagram, Heartbeat, HeartbeatKeys, NodeName, Revision, SessionId,
};

const MAGIC: &[u8; 4] = b"TRNP";
const VERSION: u8 = 1;
const TAG_LEN: usize = 32;
const NAME_LEN_MAX: usize = 63;
const BODY_LEN_MAX: usize = 2 * 16 + 40 + 1 + 24;
const HEADER_LEN: usize = MAGIC.len() + 2;

/// No datagram is longer.
pub const DATAGRAM_LEN_MAX: usize = HEADER_LEN + 3 * (1 + NAME_LEN_MAX) + BODY_LEN_MAX + TAG_LEN;
const DATAGRAM_LEN_MIN: usize = HEADER_LEN + 3 * 2 + 8 + TAG_LEN;

/// What a datagram says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    /// A heartbeat, as the node made it.
    Beat {
        /// What the sender received of the addressee.
        echoes: Echoes,
        /// The node's.
        datagram: Datagram,
    },
    /// `turnip check` asks whether datagrams come through.
    Probe(u64),
    /// They do; with the number of the probe.
    ProbeReply(u64),
}

/// Which heartbeat was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Echo {
    /// Of this process.
    pub process: u64,
    /// With this number.
    pub number: u64,
}

/// What a process received last of the addressee's process, by which that sees that it is heard, and of
/// another one, that may have taken its place or may be long dead. A process that finds itself in
/// neither takes the datagram for an earlier one's that is sent again.
pub type Echoes = [Option<Echo>; 2];

/// Why a datagram is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reject {
    /// It is no datagram of this version.
    Malformed,
    /// It is for another cluster or another node.
    Misaddressed,
    /// Its tag is none of the known keys'.
    Forged,
    /// Nothing is known yet by which it could be judged.
    NoKey,
}

/// What datagrams are authenticated with.
#[derive(Clone)]
pub struct Keys {
    current: hmac::Key,
    previous: Option<hmac::Key>,
}

impl Keys {
    /// The keys as they lie in the store; none when the current one is no key of 256 bits.
    pub fn new(keys: &HeartbeatKeys) -> Option<Self> {
        Some(Keys {
            current: key(&keys.current)?,
            previous: keys.previous.as_deref().and_then(key),
        })
    }

    fn verify(&self, text: &[u8], tag: &[u8]) -> bool {
        // Compares in constant time.
        hmac::verify(&self.current, text, tag).is_ok()
            || self.previous.as_ref().is_some_and(|key| hmac::verify(key, text, tag).is_ok())
    }
}

fn key(hex: &str) -> Option<hmac::Key> {
    if hex.len() != 64 || !hex.bytes().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).ok();
    let bytes = (0..64).step_by(2).map(byte).collect::<Option<Vec<u8>>>()?;
    Some(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

/// Who speaks here: what each datagram's sender or addressee has to be.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterName,
    /// This node.
    pub node: NodeName,
}

impl Identity {
    /// The bytes of `message` to `to`.
    pub fn encode(&self, keys: &Keys, to: &NodeName, message: &Message) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(DATAGRAM_LEN_MAX);
        bytes.extend(MAGIC);
        let kind = match message {
            Message::Beat { .. } => 0,
            Message::Probe(_) => 1,
            Message::ProbeReply(_) => 2,
        };
        bytes.extend([VERSION, kind]);
        for name in [self.cluster.as_str(), self.node.as_str(), to.as_str()] {
            // At most 63.
            bytes.push(name.len() as u8);
            bytes.extend(name.as_bytes());
        }
        match message {
            Message::Probe(number) | Message::ProbeReply(number) => {
                bytes.extend(number.to_be_bytes());
            }
            Message::Beat { echoes, datagram } => {
                for echo in echoes {
                    // Processes are drawn at random, and numbers begin with 1: this is none.
                    let echo = echo.unwrap_or(Echo { process: 0, number: 0 });
                    put(&mut bytes, &[echo.process, echo.number]);
                }
                let Datagram { heartbeat, hears_addressee, acknowledges } = datagram;
                let Heartbeat { session, process, number, modified, complete_to } = heartbeat;
                let (modified, complete_to) = (modified.0 as u64, complete_to.0 as u64);
                put(&mut bytes, &[session.0.0 as u64, *process, *number, modified, complete_to]);
                bytes.push(u8::from(acknowledges.is_some()) | u8::from(*hears_addressee) << 1);
                if let Some(Acknowledgement { session, process, number }) = acknowledges {
                    put(&mut bytes, &[session.0.0 as u64, *process, *number]);
                }
            }
        }
        bytes.extend(hmac::sign(&keys.current, &bytes).as_ref());
        bytes
    }

    /// What `bytes` say to this node, and which node says it.
    ///
    /// # Errors
    /// When they are not to be taken.
    pub fn decode(&self, keys: Option<&Keys>, bytes: &[u8]) -> Result<(NodeName, Message), Reject> {
        use Reject::Malformed;
        if !(DATAGRAM_LEN_MIN..=DATAGRAM_LEN_MAX).contains(&bytes.len()) {
            return Err(Malformed);
        }
        let (text, tag) = bytes.split_at(bytes.len() - TAG_LEN);
        let mut rest = Reader(text);
        if rest.take(MAGIC.len()) != Some(MAGIC) || rest.byte() != Some(VERSION) {
            return Err(Malformed);
        }
        let kind = rest.byte().ok_or(Malformed)?;
        let cluster = rest.name().ok_or(Malformed)?;
        let from = rest.name().ok_or(Malformed)?;
        let to = rest.name().ok_or(Malformed)?;
        if cluster != self.cluster.as_str() || to != self.node.as_str() {
            return Err(Reject::Misaddressed);
        }
        let from: NodeName = from.parse().map_err(|_| Malformed)?;
        let message = rest.message(kind).filter(|_| rest.0.is_empty()).ok_or(Malformed)?;
        match keys {
            Some(keys) if keys.verify(text, tag) => Ok((from, message)),
            Some(_) => Err(Reject::Forged),
            None => Err(Reject::NoKey),
        }
    }
}

fn put(bytes: &mut Vec<u8>, numbers: &[u64]) {
    numbers.iter().for_each(|number| bytes.extend(number.to_be_bytes()));
}

/// What has not been read yet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn number(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_be_bytes)
    }

    fn revision(&mut self) -> Option<Revision> {
        self.number().map(|number| Revision(number as i64))
    }

    fn name(&mut self) -> Option<&'a str> {
        let len = self.byte()?.into();
        str::from_utf8(self.take(len)?).ok()
    }

    fn echo(&mut self) -> Option<Option<Echo>> {
        let echo = Echo { process: self.number()?, number: self.number()? };
        Some((echo.number != 0).then_some(echo))
    }

    fn message(&mut self, kind: u8) -> Option<Message> {
        match kind {
            0 => {
                let echoes = [self.echo()?, self.echo()?];
                let heartbeat = Heartbeat {
                    session: SessionId(self.revision()?),
                    process: self.number()?,
                    number: self.number()?,
                    modified: self.revision()?,
                    complete_to: self.revision()?,
                };
                let said = self.byte()?;
                let hears_addressee = said & 2 != 0;
                let acknowledges = match said & !2 {
                    0 => None,
                    1 => Some(Acknowledgement {
                        session: SessionId(self.revision()?),
                        process: self.number()?,
                        number: self.number()?,
                    }),
                    _ => return None,
                };
                let datagram = Datagram { heartbeat, hears_addressee, acknowledges };
                Some(Message::Beat { echoes, datagram })
            }
            1 => self.number().map(Message::Probe),
            2 => self.number().map(Message::ProbeReply),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(current: u8, previous: Option<u8>) -> Keys {
        let hex = |byte: u8| format!("{byte:02x}").repeat(32);
        Keys::new(&HeartbeatKeys { current: hex(current), previous: previous.map(hex) }).unwrap()
    }

    fn identity(node: &str) -> Identity {
        Identity { cluster: "main".parse().unwrap(), node: node.parse().unwrap() }
    }

    fn beat() -> Message {
        let session = SessionId(Revision(7));
        let acknowledges = Some(Acknowledgement { session, process: u64::MAX, number: 3 });
        let heartbeat = Heartbeat {
            session: SessionId(Revision(5)),
            process: 8,
            number: 9,
            modified: Revision(10),
            complete_to: Revision(11),
        };
        let datagram = Datagram { heartbeat, hears_addressee: true, acknowledges };
        let echoes = [Echo { process: 1, number: 2 }, Echo { process: u64::MAX, number: 3 }];
        Message::Beat { echoes: echoes.map(Some), datagram }
    }

    #[test]
    fn what_was_encoded_is_decoded_by_its_addressee() {
        let (a, b, keys) = (identity("a"), identity("b"), keys(1, None));
        let Message::Beat { mut datagram, .. } = beat() else { unreachable!() };
        (datagram.hears_addressee, datagram.acknowledges) = (false, None);
        let silent = Message::Beat { echoes: [None, None], datagram };
        for message in [beat(), silent, Message::Probe(4), Message::ProbeReply(u64::MAX)] {
            let bytes = a.encode(&keys, &b.node, &message);
            assert_eq!(b.decode(Some(&keys), &bytes), Ok((a.node.clone(), message)));
        }
    }

    #[test]
    fn with_usual_names_it_is_no_longer_than_200_bytes_and_with_the_longest_it_fits() {
        let (a, b) = (identity("host-a.example.org"), identity("host-b.example.org"));
        assert!(a.encode(&keys(1, None), &b.node, &beat()).len() <= 200);
        let long = identity(&"x".repeat(63));
        let long = Identity { cluster: "c".repeat(63).parse().unwrap(), ..long };
        let bytes = long.encode(&keys(1, None), &long.node, &beat());
        assert_eq!(bytes.len(), DATAGRAM_LEN_MAX);
        assert!(long.decode(Some(&keys(1, None)), &bytes).is_ok());
    }

    #[test]
    fn a_datagram_of_which_any_byte_was_changed_or_cut_off_is_not_taken() {
        let (a, b, keys) = (identity("a"), identity("b"), keys(1, None));
        let bytes = a.encode(&keys, &b.node, &beat());
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(b.decode(Some(&keys), &changed).is_err(), "byte {at}");
            assert!(b.decode(Some(&keys), &bytes[..at]).is_err(), "{at} bytes");
        }
        let longer: Vec<u8> = bytes.iter().copied().chain([0]).collect();
        assert!(b.decode(Some(&keys), &longer).is_err());
    }

    #[test]
    fn what_is_for_another_node_or_cluster_is_not_taken() {
        let (a, keys) = (identity("a"), keys(1, None));
        let bytes = a.encode(&keys, &"b".parse().unwrap(), &beat());
        assert_eq!(identity("c").decode(Some(&keys), &bytes), Err(Reject::Misaddressed));
        let elsewhere = Identity { cluster: "other".parse().unwrap(), ..identity("b") };
        assert_eq!(elsewhere.decode(Some(&keys), &bytes), Err(Reject::Misaddressed));
    }

    #[test]
    fn the_key_before_is_taken_as_well_and_the_one_before_that_is_not() {
        let (a, b) = (identity("a"), identity("b"));
        let bytes = a.encode(&keys(1, None), &b.node, &beat());
        assert!(b.decode(Some(&keys(2, Some(1))), &bytes).is_ok());
        assert_eq!(b.decode(Some(&keys(3, Some(2))), &bytes), Err(Reject::Forged));
        assert_eq!(b.decode(None, &bytes), Err(Reject::NoKey));
    }

    #[test]
    fn what_is_no_key_of_256_bits_is_none() {
        for text in ["", "00", &"0".repeat(63), &"0".repeat(65), &"é".repeat(32), &"g".repeat(64)]
        {
            assert!(key(text).is_none(), "{text}");
        }
    }
}
