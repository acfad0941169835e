//! What an outage is put down to: each cause is told once while the outage lasts.

use std::collections::BTreeSet;

/// So many causes of one outage are told. etcd's errors are few; what is said by others has no end.
const CAUSES_MAX: usize = 32;

/// The causes that were told already.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Causes(BTreeSet<String>);

impl Causes {
    /// Takes note of an error; whether one of its causes is news. An error of several endpoints names
    /// one cause each, separated by semicolons, in whichever order they were asked.
    pub fn is_news(&mut self, why: &str) -> bool {
        let mut is_news = false;
        for cause in why.split("; ") {
            if self.0.len() < CAUSES_MAX {
                is_news |= self.0.insert(without_times(cause));
            }
        }
        is_news
    }

    /// The outage is over: what comes next is news.
    pub fn are_over(&mut self) {
        self.0.clear();
    }
}

/// The text without how long something took: that is another one each time.
fn without_times(text: &str) -> String {
    let mut words = Vec::new();
    for word in text.split(' ') {
        let number = word.trim_matches(|c: char| !c.is_alphanumeric());
        let unit = number.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let is_time =
            unit.len() < number.len() && ["ns", "µs", "us", "ms", "s", "m"].contains(&unit);
        words.push(if is_time { "…" } else { word });
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_news_once_in_an_outage_however_long_each_attempt_took() {
        let mut causes = Causes::default();
        assert!(causes.is_news("http://a:2379 did not answer within 499.8ms"));
        assert!(!causes.is_news("http://a:2379 did not answer within 1.5s"));
        assert!(causes.is_news("http://a:2379: connection refused"), "another cause");
        assert!(!causes.is_news("http://a:2379 did not answer within 167µs"));
        causes.are_over();
        assert!(causes.is_news("http://a:2379: connection refused"), "another outage");
    }

    #[test]
    fn the_order_in_which_endpoints_were_asked_is_no_news_and_another_endpoint_is() {
        let mut causes = Causes::default();
        assert!(causes.is_news("http://a:1: refused; http://b:1: refused"));
        assert!(!causes.is_news("http://b:1: refused; http://a:1: refused"));
        assert!(causes.is_news("http://c:1: refused; http://a:1: refused"));
    }

    #[test]
    fn what_has_no_end_is_told_so_often_and_not_remembered() {
        let mut causes = Causes::default();
        let told = (0..1_000).filter(|number| causes.is_news(&format!("error {number}"))).count();
        assert_eq!((told, causes.0.len()), (CAUSES_MAX, CAUSES_MAX));
    }
}
