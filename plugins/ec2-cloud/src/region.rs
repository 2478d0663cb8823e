//! Where a region's services listen, and which provider names mean which region.
//!
//! The original's names (`ec2-us-east-1`) and AWS's own mean the same. A provider definition may
//! name other endpoints, for a private cloud or a test; then nothing else is ever asked.

use imagefactory_plugin_sdk::author::{PluginError, Result};

/// Beginnings of regions' names and the domain of their partition; what is not here is AWS proper.
const PARTITIONS: [(&str, &str); 8] = [
    ("cn-", "amazonaws.com.cn"),
    ("us-iso-", "c2s.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
    ("us-isof-", "csp.hci.ic.gov"),
    ("eusc-", "amazonaws.eu"),
    ("us-gov-", "amazonaws.com"),
    ("", "amazonaws.com"),
];

/// The services that are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// The Query API.
    Ec2,
    /// The EBS direct APIs.
    Ebs,
}

impl Service {
    /// In addresses and in signatures.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Service::Ec2 => "ec2",
            Service::Ebs => "ebs",
        }
    }
}

/// The region that a provider's name means: `ec2-us-east-1` or `us-east-1`.
pub(crate) fn region_named(name: &str) -> Result<String> {
    let region = name.strip_prefix("ec2-").unwrap_or(name);
    if is_region(region) {
        return Ok(region.to_owned());
    }
    Err(PluginError::user_fault(format!("the provider {name:?} names no region of EC2"))
        .hint("write it as ec2-us-east-1 or us-east-1, or send an object with \"region\""))
}

/// Becomes part of a host's name and of a signature.
pub(crate) fn is_region(region: &str) -> bool {
    let words: Vec<&str> = region.split('-').collect();
    let plain = |word: &&str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    (2..=5).contains(&words.len()) && region.len() <= 40 && words.iter().all(plain)
}

/// The address of a service, without a slash at its end.
pub(crate) fn endpoint_of(service: Service, region: &str) -> String {
    let partition = PARTITIONS.iter().find(|(start, _)| region.starts_with(start));
    let domain = partition.map_or("amazonaws.com", |(_, domain)| domain);
    format!("https://{}.{region}.{domain}", service.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_originals_names_and_awss_own_mean_the_same_region() {
        for name in ["ec2-eu-west-1", "eu-west-1"] {
            assert_eq!(region_named(name).unwrap(), "eu-west-1");
        }
        for name in ["", "ec2-", "nowhere", "us-east-1/evil.example", "us east 1", "US-EAST-1"] {
            assert!(region_named(name).is_err(), "{name}");
        }
    }

    #[test]
    fn each_partition_has_its_domain() {
        let of = |region| endpoint_of(Service::Ebs, region);
        assert_eq!(of("us-east-1"), "https://ebs.us-east-1.amazonaws.com");
        assert_eq!(of("us-gov-west-1"), "https://ebs.us-gov-west-1.amazonaws.com");
        assert_eq!(of("cn-north-1"), "https://ebs.cn-north-1.amazonaws.com.cn");
        assert_eq!(of("us-isob-east-1"), "https://ebs.us-isob-east-1.sc2s.sgov.gov");
        assert_eq!(of("eusc-de-east-1"), "https://ebs.eusc-de-east-1.amazonaws.eu");
    }
}
