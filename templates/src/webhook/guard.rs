//! Where a webhook may go: an allow-list of hosts, and addresses that are refused by what they are.
//!
//! The rules hold for a URL, for each redirect, and for every address that a name resolves to: the
//! resolver of the HTTP client is ours, so that the address that was judged is the one connected to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Names under which clouds serve the credentials of a machine.
const METADATA_HOSTS: [&str; 6] = [
    "instance-data",
    "instance-data.ec2.internal",
    "metadata",
    "metadata.azure.internal",
    "metadata.goog",
    "metadata.google.internal",
];

/// Addresses for the same that are not link-local: Alibaba, Azure, Oracle, and Amazon over IPv6.
const METADATA_ADDRESSES: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)),
];

/// The rules of one template.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) allowed_hosts: Option<Vec<String>>,
    pub(super) allow_private: bool,
    pub(super) allow_link_local: bool,
}

impl Guard {
    /// Why `url` may not be called; `None` when it may.
    pub(super) fn refusal(&self, url: &Url) -> Option<String> {
        if !matches!(url.scheme(), "http" | "https") {
            return Some(format!("the scheme `{}` is not http or https", url.scheme()));
        }
        let Some(host) = url.host_str() else { return Some("there is no host".to_owned()) };
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        if let Some(allowed) = &self.allowed_hosts
            && !allowed.iter().any(|pattern| matches_host(pattern, &host))
        {
            return Some(format!("the host {host} is not among the allowed ones"));
        }
        if !self.allow_link_local && METADATA_HOSTS.contains(&host.as_str()) {
            return Some(format!("{host} serves the credentials of a cloud machine"));
        }
        if !self.allow_private && (host == "localhost" || host.ends_with(".localhost")) {
            return Some(format!("{host} is this machine"));
        }
        let literal: IpAddr = host.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
        self.refused_address(literal)
    }

    /// Why `address` may not be connected to; `None` when it may.
    pub(super) fn refused_address(&self, address: IpAddr) -> Option<String> {
        let real = embedded(address).map_or(address, IpAddr::V4);
        let refused = [address, real].into_iter().find_map(|ip| {
            if !self.allow_link_local && (is_link_local(ip) || METADATA_ADDRESSES.contains(&ip)) {
                return Some("link-local or serves the credentials of a cloud machine");
            }
            (!self.allow_private && !is_public(ip)).then_some("not a public address")
        });
        refused.map(|what| format!("{address} is {what}"))
    }
}

/// `example.org` is that host alone; `*.example.org` every host below it.
fn matches_host(pattern: &str, host: &str) -> bool {
    let pattern = pattern.trim_end_matches('.').to_ascii_lowercase();
    match pattern.strip_prefix("*.") {
        Some(domain) => host.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        None => host == pattern,
    }
}

/// The IPv4 address inside an IPv6 one that leads to it: mapped, compatible, NAT64 (RFC 6052), 6to4.
fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = address else { return None };
    let segments = v6.segments();
    let join = |at: usize| {
        let half = |at: usize| u32::from(segments.get(at).copied().unwrap_or_default());
        Some(Ipv4Addr::from((half(at) << 16) | half(at + 1)))
    };
    match segments {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => join(6),
        // `::` and `::1` are addresses of their own.
        [0, 0, 0, 0, 0, 0, high, _] if high != 0 => join(6),
        [0x2002, ..] => join(1),
        _ => None,
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn is_public(ip: IpAddr) -> bool {
    let special = match ip {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            // This network, shared address space (RFC 6598), protocol assignments, benchmarks (RFC 2544).
            let others = a == 0
                || (a == 100 && b & 0xc0 == 64)
                || v4.octets()[..3] == [192, 0, 0]
                || (a == 198 && b & 0xfe == 18)
                || a >= 240;
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || others
        }
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
                || v6.is_multicast()
        }
    };
    !special
}

/// Resolves names with the system's resolver, and refuses a name with any address that is refused.
pub(super) struct GuardedResolver(pub(super) Arc<Guard>);

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = Arc::clone(&self.0);
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if let Some(why) = found.iter().find_map(|address| guard.refused_address(address.ip())) {
                return Err(Box::new(Refused(why)) as Box<dyn std::error::Error + Send + Sync>);
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// An address that was refused: found among the causes of an error, it says that trying again is vain.
#[derive(Debug)]
pub(super) struct Refused(pub(super) String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "refused: {}", self.0)
    }
}

impl std::error::Error for Refused {}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(guard: &Guard, url: &str) -> bool {
        guard.refusal(&Url::parse(url).unwrap()).is_some()
    }

    #[test]
    fn link_local_and_metadata_addresses_are_refused_in_every_disguise() {
        let guard = Guard { allowed_hosts: None, allow_private: true, allow_link_local: false };
        for url in [
            "http://169.254.169.254/latest",
            "http://2852039166/",
            "http://0xa9.0xfe.0xa9.0xfe/",
            "http://[fe80::1]/",
            "http://[::ffff:169.254.169.254]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[2002:a9fe:a9fe::1]/",
            "http://[fd00:ec2::254]/",
            "http://METADATA.google.internal./computeMetadata",
            "http://100.100.100.200/",
            "ftp://example.org/",
        ] {
            assert!(refused(&guard, url), "{url}");
        }
        for url in ["https://example.org/", "http://127.0.0.1:8080/", "http://10.0.0.1/", "http://[::1]/"] {
            assert!(!refused(&guard, url), "{url}");
        }
    }

    #[test]
    fn private_addresses_are_refused_where_the_operator_says_so() {
        let guard = Guard { allowed_hosts: None, allow_private: false, allow_link_local: false };
        for url in [
            "http://localhost/",
            "http://127.1/",
            "http://10.0.0.1/",
            "http://192.168.1.1/",
            "http://0.0.0.0/",
            "http://100.64.0.1/",
            "http://[::1]/",
            "http://[fd12::1]/",
            "http://[::ffff:10.0.0.1]/",
        ] {
            assert!(refused(&guard, url), "{url}");
        }
        assert!(!refused(&guard, "http://93.184.216.34/"));
    }

    #[test]
    fn a_pattern_allows_the_hosts_below_a_domain_and_no_other() {
        let allowed_hosts = Some(vec!["api.example.org".to_owned(), "*.example.net".to_owned()]);
        let guard = Guard { allowed_hosts, allow_private: true, allow_link_local: false };
        for url in ["https://API.example.org./", "https://a.example.net", "https://a.b.example.net"] {
            assert!(!refused(&guard, url), "{url}");
        }
        for url in
            ["https://example.org", "https://example.net", "https://evilexample.net", "http://10.0.0.1"]
        {
            assert!(refused(&guard, url), "{url}");
        }
    }
}
