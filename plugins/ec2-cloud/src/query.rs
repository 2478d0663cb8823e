//! The EC2 Query API: a form goes out, XML comes back.
//!
//! Parameters are named as in the API's reference (`BlockDeviceMapping.1.Ebs.SnapshotId`). What
//! makes something carries a client token or is asked for by tag before, so every call here may be
//! repeated.

use imagefactory_toolkit_http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use roxmltree::{Document, Node};

use crate::aws::{Aws, Call, unexpected};
use crate::failure::CallError;
use crate::region::Service;

/// The version that all current SDKs speak.
const API_VERSION: &str = "2016-11-15";

/// RFC 3986's unreserved characters stay.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Names and values of one call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// None yet.
    pub(crate) fn new() -> Parameters {
        Parameters::default()
    }

    /// One more.
    #[must_use]
    pub(crate) fn with(mut self, name: impl Into<String>, value: impl ToString) -> Parameters {
        self.0.push((name.into(), value.to_string()));
        self
    }

    /// One more, if there is a value.
    #[must_use]
    pub(crate) fn with_some(self, name: &str, value: Option<impl ToString>) -> Parameters {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// `Name.1`, `Name.2`, …
    #[must_use]
    pub(crate) fn with_list<V: ToString>(
        self,
        name: &str,
        values: impl IntoIterator<Item = V>,
    ) -> Parameters {
        values
            .into_iter()
            .enumerate()
            .fold(self, |all, (index, value)| all.with(format!("{name}.{}", index + 1), value))
    }

    /// `Filter.N.Name` and its values.
    #[must_use]
    pub(crate) fn with_filter(self, number: usize, name: &str, value: &str) -> Parameters {
        self.with(format!("Filter.{number}.Name"), name)
            .with(format!("Filter.{number}.Value.1"), value)
    }

    fn into_form(self, action: &str) -> String {
        let first = [("Action", action), ("Version", API_VERSION)];
        let first = first.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let escaped = |text: &str| utf8_percent_encode(text, ESCAPED).to_string();
        let pairs = first.iter().chain(&self.0);
        let pairs: Vec<String> =
            pairs.map(|(name, value)| format!("{}={}", escaped(name), escaped(value))).collect();
        pairs.join("&")
    }
}

/// Calls an action; `read` takes what it needs out of the answer, `None` = it is not there.
pub(crate) fn query<T>(
    aws: &Aws,
    action: &'static str,
    parameters: Parameters,
    read: impl FnOnce(Node<'_, '_>) -> Option<T>,
) -> Result<T, CallError> {
    query_with(aws, (action, true), parameters, read)
}

/// The same for an action that may happen twice if it is sent twice.
pub(crate) fn query_once<T>(
    aws: &Aws,
    action: &'static str,
    parameters: Parameters,
    read: impl FnOnce(Node<'_, '_>) -> Option<T>,
) -> Result<T, CallError> {
    query_with(aws, (action, false), parameters, read)
}

fn query_with<T>(
    aws: &Aws,
    (action, repeatable): (&'static str, bool),
    parameters: Parameters,
    read: impl FnOnce(Node<'_, '_>) -> Option<T>,
) -> Result<T, CallError> {
    let content_type = "application/x-www-form-urlencoded; charset=utf-8".to_owned();
    let call = Call {
        headers: vec![("content-type", content_type)],
        body: parameters.into_form(action).into_bytes(),
        repeatable,
        ..Call::new(Service::Ec2, action, Method::POST, "/")
    };
    let answer = aws.send(call)?;
    let text = answer.text();
    let document = Document::parse(&text).map_err(|_| unexpected(action, "XML"))?;
    let found = read(document.root_element());
    Ok(found.ok_or_else(|| unexpected(action, "such element"))?)
}

/// For actions whose answer says nothing.
pub(crate) fn done(_answer: Node<'_, '_>) -> Option<()> {
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_a_form_with_the_references_names() {
        let form = Parameters::new()
            .with_list("ImageId", ["ami-1", "ami-2"])
            .with_filter(1, "tag:a b", "ü&=+")
            .with_some("Nothing", None::<&str>)
            .into_form("DescribeImages");
        assert_eq!(
            form,
            "Action=DescribeImages&Version=2016-11-15&ImageId.1=ami-1&ImageId.2=ami-2&\
             Filter.1.Name=tag%3Aa%20b&Filter.1.Value.1=%C3%BC%26%3D%2B"
        );
    }
}
