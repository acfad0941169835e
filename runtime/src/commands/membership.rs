//! Whether the etcd member on this host is the one that `TURNIP_ID` names.

use std::net::IpAddr;
use std::time::Duration;

use turnip::config::Reach;
use turnip::etcd::Etcd;
use turnip::etcd::inspect::Member;
use turnip_core::StoreError;

/// Asks the member that answers at the local endpoint whether `ip` is one of its peer addresses;
/// answers with its name.
///
/// # Errors
/// `Refused` when it is another member, with the one that it is; `Unavailable` when it does not
/// answer within `timeout`, or only a name that cannot be resolved now could tell which one it is.
pub async fn check(
    etcd: &Etcd,
    reach: &Reach,
    ip: IpAddr,
    timeout: Duration,
) -> Result<String, StoreError> {
    let Some(local) = &reach.etcd.local else {
        return Err(StoreError::Refused("no endpoint is on this host".into()));
    };
    let status = etcd.endpoint_status(local, timeout).await?;
    let members = etcd.members(timeout).await?;
    let mut with_addresses = Vec::new();
    let mut unresolved = None;
    for member in &members {
        let (addresses, why) = resolve(etcd, &hosts(member), timeout).await;
        if member.id == status.member_id && !addresses.contains(&ip) {
            unresolved = why;
        }
        with_addresses.push((member, addresses));
    }
    // It may be that member all the same: only the resolver can tell.
    if let Some(why) = unresolved {
        return Err(StoreError::Unavailable(why));
    }
    judge(local, status.member_id, ip, &with_addresses).map_err(StoreError::Refused)
}

/// The addresses by which the peers of the member on this host reach it, in the order of its peer URLs.
///
/// # Errors
/// When no endpoint is on this host, or etcd does not answer within `timeout`.
pub async fn peer_addresses(
    etcd: &Etcd,
    reach: &Reach,
    timeout: Duration,
) -> Result<Vec<IpAddr>, StoreError> {
    let Some(local) = &reach.etcd.local else {
        return Err(StoreError::Refused("no endpoint is on this host".into()));
    };
    let status = etcd.endpoint_status(local, timeout).await?;
    let members = etcd.members(timeout).await?;
    let own = members.iter().find(|member| member.id == status.member_id);
    Ok(resolve(etcd, &own.map(hosts).unwrap_or_default(), timeout).await.0)
}

fn judge(
    local: &str,
    id: u64,
    ip: IpAddr,
    members: &[(&Member, Vec<IpAddr>)],
) -> Result<String, String> {
    let Some((member, addresses)) = members.iter().find(|(member, _)| member.id == id) else {
        return Err(format!("{local} is member {id:x}, which the other members do not know"));
    };
    if addresses.contains(&ip) {
        return Ok(member.name.clone());
    }
    let of_whom = match members.iter().find(|(_, addresses)| addresses.contains(&ip)) {
        Some((other, _)) => format!("{ip} belongs to the member {}", other.name),
        None => format!("{ip} belongs to no member"),
    };
    Err(format!(
        "TURNIP_ID = \"{ip}\" is no peer address of the etcd member on this host: at {local} answers the member {}, whose peers reach it at {}; {of_whom}. Set TURNIP_ID to the address of this host's member",
        member.name,
        member.peer_urls.join(", ")
    ))
}

/// The hosts of a member's peer URLs.
fn hosts(member: &Member) -> Vec<String> {
    let host = |url: &String| {
        let authority = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        let authority = authority.split('/').next().unwrap_or(authority);
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.chars().all(|c| c.is_ascii_digit()) => host,
            _ => authority,
        };
        host.trim_start_matches('[').trim_end_matches(']').to_owned()
    };
    member.peer_urls.iter().map(host).collect()
}

/// The hosts' addresses, and why there is none for one of them.
async fn resolve(
    etcd: &Etcd,
    hosts: &[String],
    timeout: Duration,
) -> (Vec<IpAddr>, Option<String>) {
    let (mut addresses, mut unresolved) = (Vec::new(), None);
    for host in hosts {
        match etcd.host_addresses(host, timeout).await {
            Ok(found) => addresses.extend(found),
            Err(why) => unresolved = Some(why),
        }
    }
    (addresses, unresolved)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, name: &str, peer_url: &str) -> Member {
        Member {
            id,
            name: name.into(),
            peer_urls: vec![peer_url.into()],
            client_urls: Vec::new(),
            is_learner: false,
        }
    }

    fn verdict(id: u64, ip: &str) -> Result<String, String> {
        let (a, b) =
            (member(1, "a", "http://10.0.0.1:2380"), member(2, "b", "https://[fd00::2]:2380"));
        let known = |member| (member, hosts(member).iter().map(|h| h.parse().unwrap()).collect());
        judge("http://127.0.0.1:2379", id, ip.parse().unwrap(), &[known(&a), known(&b)])
    }

    #[test]
    fn the_local_member_is_recognised_by_its_peer_address() {
        assert_eq!(verdict(1, "10.0.0.1").as_deref(), Ok("a"));
        assert_eq!(verdict(2, "fd00::2").as_deref(), Ok("b"));
    }

    #[test]
    fn another_member_is_named_with_its_peer_addresses() {
        let error = verdict(2, "10.0.0.1").unwrap_err();
        for words in ["member b", "[fd00::2]:2380", "10.0.0.1 belongs to the member a"] {
            assert!(error.contains(words), "{error}");
        }
        assert!(verdict(1, "10.0.0.9").unwrap_err().contains("belongs to no member"));
    }
}
