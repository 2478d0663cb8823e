//! What is asked for: the provider's definition, and the parameters that come before it.
//!
//! A provider is a region (`ec2-us-east-1`) or an object. Each key of the object but the endpoints
//! is also a parameter, with `ec2_` before its name. Forms and XML know only texts, so numbers,
//! booleans and lists are read from texts too. All values come from a client and are checked here.

use std::collections::BTreeMap;
use std::time::Duration;

use imagefactory_plugin_sdk::author::{PluginError, Result, Stage};
use imagefactory_toolkit_http::Url;
use serde::Deserialize;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::aws::Endpoints;
use crate::lenient;
use crate::region::{is_region, region_named};

/// Parameters of the original that have another name here, or a meaning of their own.
const PREFIX: &str = "ec2_";

/// What EBS's own tools use; more is refused by nobody and faster for nobody.
pub(crate) const CONCURRENCY_MAX: u64 = 64;

/// Tags of one resource, less the three that are ours.
const TAGS_MAX: usize = 47;

/// One provider image, as it is wished for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Wishes {
    /// `us-east-1`.
    pub(crate) region: String,
    #[serde(skip)]
    pub(crate) endpoints: Endpoints,
    /// Certificates of further authorities, PEM.
    pub(crate) ca_certificates: Option<String>,
    /// Of the image; AWS wants it unique in the account and region.
    pub(crate) name: Option<String>,
    /// Of image and snapshots.
    pub(crate) description: Option<String>,
    #[serde(deserialize_with = "lenient::text_map")]
    pub(crate) tags: BTreeMap<String, String>,
    /// `legacy-bios`, `uefi` or `uefi-preferred`; by default what the image can.
    pub(crate) boot_mode: Option<String>,
    /// Elastic network adapter.
    #[serde(deserialize_with = "lenient::boolean")]
    pub(crate) ena_support: bool,
    /// `v2.0`: instances answer metadata requests with a session token only.
    pub(crate) imds_support: Option<String>,
    /// `v2.0`; UEFI only.
    pub(crate) tpm_support: Option<String>,
    pub(crate) root_device_name: String,
    pub(crate) volume_type: String,
    /// GiB; by default what the image needs.
    #[serde(deserialize_with = "lenient::some_number")]
    pub(crate) volume_size: Option<u64>,
    #[serde(deserialize_with = "lenient::some_number")]
    pub(crate) iops: Option<u64>,
    #[serde(deserialize_with = "lenient::some_number")]
    pub(crate) throughput: Option<u64>,
    #[serde(deserialize_with = "lenient::some_boolean")]
    pub(crate) encrypted: Option<bool>,
    pub(crate) kms_key_id: Option<String>,
    /// Accounts, `all`, ARNs of organisations.
    #[serde(deserialize_with = "lenient::list")]
    pub(crate) launch_permissions: Vec<String>,
    #[serde(deserialize_with = "lenient::list")]
    pub(crate) copy_regions: Vec<String>,
    /// A time, or days from now: `2027-01-31T00:00:00Z`, `730d`.
    pub(crate) deprecate: Option<String>,
    #[serde(deserialize_with = "lenient::some_number")]
    pub(crate) upload_concurrency: Option<u64>,
    /// The original's; only `hvm` is left.
    pub(crate) virt_type: Option<String>,
    /// The original's; only `ebs` is left.
    pub(crate) ami_type: Option<String>,
}

impl Default for Wishes {
    fn default() -> Wishes {
        Wishes {
            region: String::new(),
            endpoints: Endpoints::default(),
            ca_certificates: None,
            name: None,
            description: None,
            tags: BTreeMap::new(),
            boot_mode: None,
            ena_support: true,
            imds_support: None,
            tpm_support: None,
            root_device_name: "/dev/xvda".to_owned(),
            volume_type: "gp3".to_owned(),
            volume_size: None,
            iops: None,
            throughput: None,
            encrypted: None,
            kms_key_id: None,
            launch_permissions: Vec::new(),
            copy_regions: Vec::new(),
            deprecate: None,
            upload_concurrency: None,
            virt_type: None,
            ami_type: None,
        }
    }
}

/// The part of a provider definition that is no parameter.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Place {
    name: Option<String>,
    region: Option<String>,
    /// The original's word for the region.
    host: Option<String>,
    /// For both services, or for each; `{region}` stands for the region.
    endpoint: Option<Value>,
}

impl Wishes {
    /// Parameters before the provider's definition before the defaults.
    pub(crate) fn of(stage: &Stage<'_>) -> Result<Wishes> {
        let parameters: Map<String, Value> = stage.parameters()?;
        Wishes::read(stage.provider().unwrap_or_default(), parameters)
    }

    fn read(provider: &str, parameters: Map<String, Value>) -> Result<Wishes> {
        let mut merged = definition(provider)?;
        let place: Place = from_value("the provider's definition", &merged)?;
        let region = match place.region.or(place.host) {
            Some(region) => region_named(&region)?,
            None => region_named(place.name.as_deref().unwrap_or_default())?,
        };
        // In the definition it is the provider's name and never the image's.
        merged.remove("name");
        if let Some(name) = merged.remove("image_name") {
            merged.insert("name".to_owned(), name);
        }
        for (key, value) in parameters {
            match key.strip_prefix(PREFIX) {
                // Where an image goes is not a parameter's to say.
                Some("region" | "endpoint" | "ca_certificates") | None => {}
                Some(own) if value.is_null() => {
                    merged.remove(own);
                }
                Some(own) => {
                    merged.insert(own.to_owned(), value);
                }
            }
        }
        let mut wishes: Wishes = from_value("the provider and parameters", &merged)?;
        wishes.region = region;
        wishes.endpoints = endpoints(place.endpoint)?;
        wishes.check()?;
        Ok(wishes)
    }

    fn check(&self) -> Result<()> {
        one_of(
            "ec2_virt_type",
            self.virt_type.as_deref(),
            &["hvm"],
            "EC2 starts no paravirtual \
            instances any more; leave it out",
        )?;
        one_of(
            "ec2_ami_type",
            self.ami_type.as_deref(),
            &["ebs"],
            "instance-store images are not \
            made any more; leave it out",
        )?;
        let modes = ["legacy-bios", "uefi", "uefi-preferred"];
        one_of("ec2_boot_mode", self.boot_mode.as_deref(), &modes, "")?;
        one_of("ec2_imds_support", self.imds_support.as_deref(), &["v2.0"], "")?;
        one_of("ec2_tpm_support", self.tpm_support.as_deref(), &["v2.0"], "")?;
        let types = ["gp3", "gp2", "io1", "io2", "st1", "sc1", "standard"];
        one_of("ec2_volume_type", Some(&self.volume_type), &types, "")?;
        if let Some(name) = &self.name {
            let good = |c: char| c.is_ascii_alphanumeric() || "()[] ./-'@_".contains(c);
            if !(3..=128).contains(&name.chars().count()) || !name.chars().all(good) {
                return Err(wrong(format!("the image's name {name:?} is none for EC2"))
                    .hint("3 to 128 letters, digits and ( ) [ ] . / - ' @ _ and blanks"));
            }
        }
        if self.description.as_ref().is_some_and(|text| text.chars().count() > 255) {
            return Err(wrong("the description has more than 255 characters".to_owned()));
        }
        if !self.root_device_name.starts_with("/dev/") || self.root_device_name.len() > 32 {
            let message = format!("the root device {:?} is none", self.root_device_name);
            return Err(wrong(message).hint("write it as /dev/xvda or /dev/sda1"));
        }
        if self.tags.len() > TAGS_MAX {
            let message = format!("{} tags; EC2 takes {TAGS_MAX} beside our own", self.tags.len());
            return Err(wrong(message));
        }
        if let Some(key) = self.tags.keys().find(|key| key.starts_with("aws:") || key.is_empty()) {
            return Err(wrong(format!("the tag {key:?} cannot be set; aws: is Amazon's own")));
        }
        if let Some(at_once) = self.upload_concurrency
            && !(1..=CONCURRENCY_MAX).contains(&at_once)
        {
            let message =
                format!("ec2_upload_concurrency is {at_once}, not 1 to {CONCURRENCY_MAX}");
            return Err(wrong(message));
        }
        if let Some(region) = self.copy_regions.iter().find(|region| !is_region(region)) {
            return Err(wrong(format!("ec2_copy_regions holds {region:?}, which is no region")));
        }
        if let Some(who) = self.launch_permissions.iter().find(|who| !is_grantee(who)) {
            let message = format!("ec2_launch_permissions holds {who:?}");
            return Err(wrong(message).hint(
                "write accounts as 12 digits, \"all\", or the ARN of an organisation or unit",
            ));
        }
        if self.launch_permissions.iter().any(|who| who == "all") && self.encrypted == Some(true) {
            let message = "an encrypted image cannot be public".to_owned();
            return Err(wrong(message).hint("leave ec2_encrypted or \"all\" out"));
        }
        self.deprecation(OffsetDateTime::UNIX_EPOCH).map(|_| ())
    }

    /// When the image is to be deprecated, seen from `now`.
    pub(crate) fn deprecation(&self, now: OffsetDateTime) -> Result<Option<OffsetDateTime>> {
        let Some(wish) = self.deprecate.as_deref().filter(|wish| !wish.is_empty()) else {
            return Ok(None);
        };
        let days = wish.strip_suffix('d').and_then(|days| days.parse::<u32>().ok());
        // EC2 takes dates up to ten years away.
        if let Some(days) = days.filter(|days| (1..=3650).contains(days)) {
            return Ok(Some(now + Duration::from_secs(u64::from(days) * 86_400)));
        }
        OffsetDateTime::parse(wish, &Rfc3339).map(Some).map_err(|_| {
            wrong(format!("ec2_deprecate is {wish:?}"))
                .hint("write a time as 2027-01-31T00:00:00Z, or days as 730d (up to 3650d)")
        })
    }
}

/// The provider as an object: a name is one with that name.
fn definition(provider: &str) -> Result<Map<String, Value>> {
    let provider = provider.trim();
    if provider.starts_with('{') {
        return serde_json::from_str(provider)
            .map_err(|error| wrong(format!("the provider's definition: {error}")));
    }
    if provider.is_empty() {
        return Err(wrong("the order names no provider".to_owned()).hint("write ec2-us-east-1"));
    }
    Ok(Map::from_iter([("name".to_owned(), Value::from(provider))]))
}

fn endpoints(given: Option<Value>) -> Result<Endpoints> {
    #[derive(Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Each {
        ec2: Option<String>,
        ebs: Option<String>,
    }
    let endpoints = match given {
        None | Some(Value::Null) => Endpoints::default(),
        Some(Value::String(all)) => Endpoints { all: Some(all), ..Endpoints::default() },
        Some(object) => {
            let each: Each = serde_json::from_value(object)
                .map_err(|error| wrong(format!("the provider's endpoint: {error}")))?;
            Endpoints { all: None, ec2: each.ec2, ebs: each.ebs }
        }
    };
    for url in [&endpoints.all, &endpoints.ec2, &endpoints.ebs].into_iter().flatten() {
        let parsed = Url::parse(&url.replace("{region}", "region")).ok();
        let plain = parsed.is_some_and(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.username().is_empty()
                && url.query().is_none()
                && url.fragment().is_none()
        });
        if !plain {
            return Err(wrong("an endpoint of the provider is no plain http(s) URL".to_owned())
                .hint("write it as https://ec2.example:8773"));
        }
    }
    Ok(endpoints)
}

fn from_value<T: serde::de::DeserializeOwned>(what: &str, map: &Map<String, Value>) -> Result<T> {
    serde_json::from_value(Value::Object(map.clone()))
        .map_err(|error| wrong(format!("{what}: {error}")))
}

fn one_of(name: &str, given: Option<&str>, possible: &[&str], hint: &str) -> Result<()> {
    match given {
        Some(given) if !possible.contains(&given) => {
            let error = wrong(format!("{name} is {given:?}, not {}", possible.join(", ")));
            Err(if hint.is_empty() { error } else { error.hint(hint) })
        }
        _ => Ok(()),
    }
}

fn is_grantee(who: &str) -> bool {
    let account = who.len() == 12 && who.bytes().all(|byte| byte.is_ascii_digit());
    account || who == "all" || is_organisation(who) || is_unit(who)
}

/// `arn:aws:organizations::123456789012:organization/o-…`.
pub(crate) fn is_organisation(who: &str) -> bool {
    is_arn_of(who, ":organization/")
}

/// `arn:aws:organizations::123456789012:ou/o-…/ou-…`.
pub(crate) fn is_unit(who: &str) -> bool {
    is_arn_of(who, ":ou/")
}

fn is_arn_of(who: &str, what: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-:/".contains(c);
    who.starts_with("arn:aws") && who.contains(what) && who.len() <= 256 && who.chars().all(plain)
}

fn wrong(message: String) -> PluginError {
    PluginError::user_fault(message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(provider: &Value, parameters: Value) -> Result<Wishes> {
        let text = match provider {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let Value::Object(parameters) = parameters else { panic!("an object") };
        Wishes::read(&text, parameters)
    }

    #[test]
    fn parameters_come_before_the_provider_and_the_provider_before_the_defaults() {
        let provider = json!({"name": "ec2-eu-west-1", "volume_type": "gp2", "iops": 3000,
            "tags": {"a": "b"}, "endpoint": "http://127.0.0.1:5000/"});
        let wishes = read(
            &provider,
            json!({"ec2_volume_type": "io2", "ec2_name": "web 1", "ec2_region": "elsewhere",
                "other": 1, "ec2_iops": null}),
        );
        let wishes = wishes.unwrap();
        assert_eq!((wishes.region.as_str(), wishes.volume_type.as_str()), ("eu-west-1", "io2"));
        assert_eq!((wishes.name.as_deref(), wishes.iops), (Some("web 1"), None));
        assert_eq!(wishes.tags["a"], "b");
        assert_eq!(wishes.endpoints.all.as_deref(), Some("http://127.0.0.1:5000/"));
        let plain = read(&json!("ec2-us-east-1"), json!({})).unwrap();
        assert_eq!((plain.region.as_str(), plain.name), ("us-east-1", None));
        assert!(plain.ena_support && plain.volume_type == "gp3");
    }

    #[test]
    fn texts_of_forms_are_numbers_booleans_and_lists() {
        let wishes = read(
            &json!({"region": "us-east-1"}),
            json!({"ec2_upload_concurrency": "8", "ec2_encrypted": "true", "ec2_ena_support": "no",
                "ec2_copy_regions": "eu-west-1, eu-west-2", "ec2_tags": "{\"a\":\"1\"}",
                "ec2_launch_permissions": ["123456789012"]}),
        );
        let wishes = wishes.unwrap();
        assert_eq!((wishes.upload_concurrency, wishes.encrypted), (Some(8), Some(true)));
        assert_eq!(wishes.copy_regions, ["eu-west-1", "eu-west-2"]);
        assert!(!wishes.ena_support && wishes.tags["a"] == "1");
    }

    fn check_refused(provider: Value, parameters: Value, expected: &str) {
        let said = format!("{:?}", read(&provider, parameters).expect_err(expected));
        assert!(said.contains(expected), "{said}");
    }

    #[test]
    fn what_cannot_be_made_is_refused_with_a_sentence() {
        let east = || json!("us-east-1");
        check_refused(json!(""), json!({}), "names no provider");
        check_refused(json!("mars"), json!({}), "names no region");
        check_refused(json!("{"), json!({}), "the provider's definition");
        check_refused(json!({"region": "us-east-1", "endpoint": "ftp://x"}), json!({}), "plain");
        check_refused(json!({"region": "us-east-1", "endpoint": {"s3": "x"}}), json!({}), "s3");
        let url = "https://user:hunter2@example/";
        let endpoint = json!({"region": "us-east-1", "endpoint": url});
        check_refused(endpoint, json!({}), "no plain http(s) URL");
        check_refused(east(), json!({"ec2_virt_type": "paravirtual"}), "hvm");
        check_refused(east(), json!({"ec2_ami_type": "s3"}), "ebs");
        check_refused(east(), json!({"ec2_boot_mode": "coreboot"}), "uefi-preferred");
        check_refused(east(), json!({"ec2_name": "a"}), "3 to 128");
        check_refused(east(), json!({"ec2_upload_concurrency": 65}), "1 to 64");
        check_refused(east(), json!({"ec2_upload_concurrency": "many"}), "a whole number");
        check_refused(east(), json!({"ec2_launch_permissions": "everybody"}), "12 digits");
        let public = json!({"ec2_launch_permissions": "all", "ec2_encrypted": true});
        check_refused(east(), public, "cannot be public");
        check_refused(east(), json!({"ec2_copy_regions": ["x/y"]}), "no region");
        check_refused(east(), json!({"ec2_tags": {"aws:x": "1"}}), "Amazon's own");
        check_refused(east(), json!({"ec2_deprecate": "soon"}), "730d");
    }

    #[test]
    fn a_deprecation_is_a_time_or_days_from_now() {
        let of = |wish: &str| {
            let wishes = read(&json!("us-east-1"), json!({"ec2_deprecate": wish})).unwrap();
            let at = wishes.deprecation(OffsetDateTime::UNIX_EPOCH).unwrap().unwrap();
            at.format(&Rfc3339).unwrap()
        };
        assert_eq!(of("2d"), "1970-01-03T00:00:00Z");
        assert_eq!(of("2027-01-31T00:00:00Z"), "2027-01-31T00:00:00Z");
    }
}
