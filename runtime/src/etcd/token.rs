//! What etcd gives for a user and a password, and how long that is good for.
//!
//! etcd gives either of two kinds. A *simple* token is a line in each member's memory, which is struck out
//! when it was not used for `--auth-token-ttl`, of whole seconds; that is told nobody. So it is used at least
//! every 600 ms, and then the least that can be configured does no harm. A *signed* token (JWT) ends at an
//! instant that is written in it, by the server's clock, whatever is done with it. So it is replaced when half
//! of its life is over; the life that a refusal has shown counts, where it is shorter than what was written.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use serde::Deserialize;
use tokio::time::Instant;

/// After so long without use a simple token is used for the sake of it. The shortest that etcd can be told is
/// a second, and it looks once a second.
pub(super) const UNUSED_MAX: Duration = Duration::from_millis(600);
/// How long a signed token that does not say it is thought to live. etcd's own default is 5 minutes.
const SIGNED_LIFE: Duration = Duration::from_secs(120);
/// A signed token is not replaced more often than this.
const REPLACED_AFTER_MIN: Duration = Duration::from_millis(500);
/// What is longer is a clock that is wrong.
const LIFE_MAX_SECS: f64 = 10.0 * 365.0 * 86_400.0;

/// A token, or etcd's word that none is needed.
#[derive(Clone, Debug)]
pub(super) struct Token {
    /// Which of this endpoint's tokens it is.
    pub number: u64,
    /// As it is sent; absent when none is needed.
    pub header: Option<HeaderValue>,
    kind: Kind,
    issued: Instant,
    used: Instant,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    /// etcd asks nobody who he is.
    Needless,
    Simple,
    /// It lives for so long, as far as is known.
    Signed(Duration),
}

/// What a token wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wants {
    /// To be used.
    Use,
    /// To be replaced by another.
    Successor,
}

#[derive(Deserialize)]
struct Claims {
    exp: f64,
}

impl Token {
    /// etcd's answer to a login.
    pub(super) fn given(number: u64, text: &str, now: Instant, unix: Duration) -> Option<Self> {
        let mut header = HeaderValue::from_str(text).ok()?;
        header.set_sensitive(true);
        let kind = match text.split('.').collect::<Vec<_>>()[..] {
            [_, claims, _] => Kind::Signed(life(claims, unix).unwrap_or(SIGNED_LIFE)),
            _ => Kind::Simple,
        };
        Some(Token { number, header: Some(header), kind, issued: now, used: now })
    }

    /// etcd has answered that it wants none.
    pub(super) fn needless(number: u64, now: Instant) -> Self {
        Token { number, header: None, kind: Kind::Needless, issued: now, used: now }
    }

    /// etcd has accepted it, or was asked to.
    pub(super) fn note_used(&mut self, now: Instant) {
        self.used = now;
    }

    /// It was found to have ended. How long such tokens live at most, if that says so.
    pub(super) fn ended(&self, now: Instant) -> Option<Duration> {
        matches!(self.kind, Kind::Signed(_)).then(|| now.duration_since(self.issued))
    }

    /// No token of this kind lives longer.
    pub(super) fn limit(&mut self, longest: Duration) {
        if let Kind::Signed(life) = &mut self.kind {
            *life = longest.min(*life);
        }
    }

    /// What it wants next, and when; nothing when nobody needs it.
    pub(super) fn wants(&self) -> Option<(Instant, Wants)> {
        match self.kind {
            Kind::Needless => None,
            Kind::Simple => Some((self.used + UNUSED_MAX, Wants::Use)),
            Kind::Signed(life) => {
                Some((self.issued + (life / 2).max(REPLACED_AFTER_MIN), Wants::Successor))
            }
        }
    }
}

/// How long a signed token with these claims lives from now on, by this host's clock.
fn life(claims: &str, unix: Duration) -> Option<Duration> {
    let json = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    let Claims { exp } = serde_json::from_slice(&json).ok()?;
    let left = exp - unix.as_secs_f64();
    (left > 0.0 && left < LIFE_MAX_SECS).then(|| Duration::from_secs_f64(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_UNIX: Duration = Duration::from_secs(1_700_000_000);

    fn signed(exp: i64) -> String {
        let claims = URL_SAFE_NO_PAD.encode(format!("{{\"username\":\"u\",\"exp\":{exp}}}"));
        format!("e30.{claims}.c2ln")
    }

    fn wants(text: &str) -> (Duration, Wants) {
        let now = Instant::now();
        let token = Token::given(1, text, now, NOW_UNIX).unwrap();
        let (at, what) = token.wants().unwrap();
        (at - now, what)
    }

    #[test]
    fn a_simple_token_wants_to_be_used_before_the_shortest_time_that_etcd_can_be_told() {
        let (after, what) = wants("tKYVBgoGXgbVBrqo.9");
        assert_eq!(what, Wants::Use);
        assert!(after < Duration::from_secs(1));
    }

    #[test]
    fn a_signed_token_is_replaced_when_half_of_its_life_is_over() {
        assert_eq!(wants(&signed(1_700_000_300)), (Duration::from_secs(150), Wants::Successor));
        // By this host's clock it ended before it was given: no word about how long it lives.
        assert_eq!(wants(&signed(1_699_999_999)), (SIGNED_LIFE / 2, Wants::Successor));
        assert_eq!(wants("a.b.c"), (SIGNED_LIFE / 2, Wants::Successor));
    }

    #[test]
    fn what_a_refusal_has_shown_counts_where_it_is_shorter_than_what_was_written() {
        let now = Instant::now();
        let token = Token::given(1, &signed(1_700_000_300), now, NOW_UNIX).unwrap();
        let longest = token.ended(now + Duration::from_secs(10)).unwrap();
        let mut next = Token::given(2, &signed(1_700_000_300), now, NOW_UNIX).unwrap();
        next.limit(longest);
        assert_eq!(next.wants().unwrap().0, now + Duration::from_secs(5));
        // A simple one ends by not being used, or with the member's memory.
        let simple = Token::given(3, "tKYVBgoGXgbVBrqo.9", now, NOW_UNIX).unwrap();
        assert_eq!(simple.ended(now + Duration::from_secs(10)), None);
    }

    #[test]
    fn a_token_is_not_shown() {
        let token = Token::given(1, "tKYVBgoGXgbVBrqo.9", Instant::now(), NOW_UNIX).unwrap();
        assert!(!format!("{token:?}").contains("tKYV"));
    }
}
