//! Where our own folders lie in the cgroup hierarchies: `/proc/self/mountinfo` and
//! `/proc/self/cgroup` read together. Pure; `cgroup.rs` tries whether anything can be made there.

use std::path::{Path, PathBuf};

/// Our folder in the v1 hierarchy of a controller.
pub(super) fn v1_folder(mountinfo: &str, own: &str, controller: &str) -> Option<PathBuf> {
    let mount = mountinfo.lines().filter_map(CgroupMount::parse).find(|mount| {
        mount.kind == "cgroup" && mount.options.split(',').any(|option| option == controller)
    })?;
    let path = own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers.split(',').any(|found| found == controller).then_some(path)
    })?;
    mount.folder(path)
}

/// Our folder in the v2 hierarchy.
pub(super) fn unified_folder(mountinfo: &str, own: &str) -> Option<PathBuf> {
    let mut mounts = mountinfo.lines().filter_map(CgroupMount::parse);
    let mount = mounts.find(|mount| mount.kind == "cgroup2")?;
    mount.folder(own.lines().find_map(|line| line.strip_prefix("0::"))?)
}

/// A line of mountinfo that mounts cgroups.
struct CgroupMount<'a> {
    kind: &'a str,
    root: &'a str,
    point: &'a str,
    options: &'a str,
}

impl<'a> CgroupMount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let mut after = after.split(' ');
        let (root, point) = (before.next()?, before.next()?);
        let kind = after.next()?;
        let options = after.nth(1)?;
        kind.starts_with("cgroup").then_some(CgroupMount { kind, root, point, options })
    }

    /// Where `path` of the hierarchy is seen; `None` = it lies outside of what is mounted here.
    fn folder(&self, path: &str) -> Option<PathBuf> {
        let below = Path::new(path).strip_prefix(self.root).ok()?;
        Some(if below == Path::new("") {
            PathBuf::from(self.point)
        } else {
            Path::new(self.point).join(below)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
36 31 0:33 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 /docker/7 /sys/fs/cgroup/cpu,pids rw,relatime shared:9 - cgroup cgroup rw,cpu,pids
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn own_folders_are_found_in_v1_hybrid_and_v2() {
        let own = "8:cpu,pids:/docker/7/inner\n4:memory:/\n0::/user.slice\n";
        let check = |controller, want: Option<&str>| {
            assert_eq!(v1_folder(HYBRID, own, controller), want.map(PathBuf::from));
        };
        check("memory", Some("/sys/fs/cgroup/memory"));
        check("pids", Some("/sys/fs/cgroup/cpu,pids/inner"));
        check("freezer", None);
        let unified = unified_folder(HYBRID, own);
        assert_eq!(unified, Some(PathBuf::from("/sys/fs/cgroup/unified/user.slice")));
        assert_eq!(v1_folder(HYBRID, "8:pids:/elsewhere\n", "pids"), None);
    }
}
