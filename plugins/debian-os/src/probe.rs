//! Can this stage make a system's files at all? They belong to many users, so it must be root of a
//! user namespace with a range of ids. What is missing is said before anything is fetched.

use imagefactory_plugin_sdk::author::{ErrorCode, PluginError, Result};

/// Ids that a Debian system may use for its files: up to `nobody`, 65534.
const IDS_MIN: u64 = 65_535;

/// Asks the kernel.
pub(crate) fn check_ids() -> Result<()> {
    let map = std::fs::read_to_string("/proc/self/uid_map")?;
    judge(rustix::process::geteuid().is_root(), ids_in(&map))
}

/// How many ids a `uid_map` has from 0 on: lines of inside, outside, count.
fn ids_in(map: &str) -> u64 {
    let mut ranges: Vec<(u64, u64)> = map
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().map(|field| field.parse::<u64>().ok());
            let (inside, _) = (fields.next()??, fields.next());
            Some((inside, fields.next()??))
        })
        .collect();
    ranges.sort_unstable();
    ranges.iter().fold(0, |end, (inside, count)| if *inside == end { end + count } else { end })
}

fn judge(root: bool, ids: u64) -> Result<()> {
    let (message, hint) = if !root {
        (
            "this stage has no user namespace, in which it could be root".to_owned(),
            "allow user namespaces (sysctl user.max_user_namespaces, on some kernels also \
             kernel.unprivileged_userns_clone=1 or AppArmor's \
             kernel.apparmor_restrict_unprivileged_userns=0), or run the factory as root",
        )
    } else if ids < IDS_MIN {
        (
            format!("this stage has {ids} user id(s), and a system's files belong to {IDS_MIN}"),
            "install uidmap and give the factory's user a range of ids, a line \
             'USER:100000:65536' in /etc/subuid and in /etc/subgid, or run the factory as root",
        )
    } else {
        return Ok(());
    };
    Err(PluginError::new(ErrorCode::Unsupported, message).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_counted_from_zero_without_gap() {
        for (map, ids) in [
            ("         0          0 4294967295\n", 4_294_967_295),
            ("         0       1000          1\n", 1),
            ("         0       1000          1\n         1     100000      65536\n", 65_537),
            ("      1000       1000          1\n", 0),
            ("", 0),
        ] {
            assert_eq!(ids_in(map), ids, "{map}");
        }
    }

    #[test]
    fn what_is_missing_is_said_with_how_to_get_it() {
        assert!(judge(true, 65_536).is_ok());
        for (root, ids, says) in [(false, 65_536, "no user namespace"), (true, 1, "1 user id")] {
            let error = judge(root, ids).unwrap_err();
            assert!(error.message().contains(says), "{}", error.message());
        }
    }
}
