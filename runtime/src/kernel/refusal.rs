//! What the kernel says when it refuses a request.

use std::io;

use netlink_packet_core::NlasIterator;
use nix::errno::Errno;

/// The header of the refused request, which comes with the refusal.
pub(super) const MESSAGE_HEADER: usize = 16;
/// The kernel's explanation, among the attributes of a refusal.
const NLMSGERR_ATTR_MSG: u16 = 1;

/// Why the kernel refused one message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Refusal {
    /// The error number, positive.
    pub errno: i32,
    /// What the kernel says about it, where it says something.
    pub text: Option<String>,
}

impl Refusal {
    /// Of a code as the kernel gives it, negative, and the attributes that came with it.
    pub fn new(code: i32, attributes: &[u8]) -> Self {
        let text = NlasIterator::new(attributes)
            .flatten()
            .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)
            .map(|attribute| String::from_utf8_lossy(attribute.value()).into_owned())
            .map(|text| text.trim_end_matches('\0').to_owned());
        Refusal { errno: code.saturating_neg(), text }
    }

    /// Of an address that was to be deleted: whether there is nothing to delete.
    pub fn is_gone(&self) -> bool {
        let gone = [Errno::EADDRNOTAVAIL, Errno::ENODEV, Errno::ENXIO];
        gone.contains(&Errno::from_raw(self.errno))
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let error = Errno::from_raw(self.errno);
        match &self.text {
            Some(text) => write!(f, "{text} ({})", error.desc()),
            None => write!(f, "{} ({error:?})", error.desc()),
        }
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        let kind = io::Error::from_raw_os_error(refusal.errno).kind();
        io::Error::new(kind, refusal.to_string())
    }
}
