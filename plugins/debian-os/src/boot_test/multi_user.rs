//! How a guest tells that it reached multi-user: a line on its console.
//!
//! systemd tells its targets there as well, but only until a getty has the console, which is
//! usually before the last target: a login prompt alone proves no more than that a getty runs. So
//! our images have a unit that is ordered after multi-user.target and says so.

/// Where the unit stands in an image.
pub(crate) const UNIT_PATH: &str = "/etc/systemd/system/imagefactory-multi-user.service";

/// The unit; its line begins with [`LINE`].
pub(crate) const UNIT: &str = "[Unit]
Description=Say on the console that multi-user was reached
After=multi-user.target

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo \"imagefactory: multi-user.target was reached\" > /dev/console'

[Install]
WantedBy=multi-user.target
";

/// What it says.
pub(super) const LINE: &str = "imagefactory: multi-user.target was reached";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_says_the_line_that_is_looked_for() {
        assert!(UNIT.contains(LINE));
    }
}
