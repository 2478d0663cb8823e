//! The one table of all addresses: which methods each has, who may ask, who answers.
//!
//! Everything about an address hangs on its row: 404 and 405 with `Allow`, HEAD, trailing slashes,
//! OAuth, the OpenAPI document and the tests of the documentation read the same table (decision
//! 0005). Images have the same rows at six places, so those rows are written once.

use std::sync::LazyLock;

use hyper::http::Method;
use imagefactory_model::image::ImageKind::{self, BaseImage, ProviderImage, TargetImage};
use uuid::Uuid;

use super::problems::Problem;

/// What an address and a method ask for. `service.rs` knows who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Endpoint {
    StatusPage,
    Metrics,
    Health,
    Readiness,
    ApiInformation,
    OpenApi,
    ListImages,
    NewImage,
    ShowImage,
    DeleteImage,
    CancelImage,
    RawImage,
    ListArtifacts,
    Artifact,
    Log,
    ListPlugins,
    ShowPlugin,
    Jeos,
    ListJeosImages,
    ListTargets,
    ShowTarget,
    ListProviders,
    ShowProvider,
    ValidateTemplate,
    Events,
    ListLeftovers,
    DropLeftover,
}

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody.
    Open,
    /// Whoever signs; everybody's GET with `oauth_open_reads`.
    Signed,
    /// Whoever signs, whatever the configuration says: contents of images.
    AlwaysSigned,
    /// Whoever asks from this machine; others as [`Access::Signed`].
    Local,
}

/// What an address answers in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// JSON, so `Accept` must not exclude it.
    Json,
    /// Whatever it is: a file, a text, a stream.
    Other,
}

/// One address.
#[derive(Debug)]
pub(crate) struct Row {
    /// With `{names}` for what varies.
    pub(crate) path: String,
    /// The collection that it belongs to, where it is about images.
    pub(crate) kind: Option<ImageKind>,
    /// Methods and what they ask for. HEAD comes with GET.
    pub(crate) methods: Vec<(Method, Endpoint)>,
    /// Who may ask.
    pub(crate) access: Access,
    /// What it answers in.
    pub(crate) form: Form,
    segments: Vec<Segment>,
}

#[derive(Debug)]
enum Segment {
    Fixed(String),
    Varying(String),
}

use Access::{AlwaysSigned, Local, Open, Signed};
use Endpoint::*;
use Form::{Json, Other};

type MethodRow = &'static [(Method, Endpoint)];

/// Addresses that stand alone.
const PLAIN: [(&str, MethodRow, Access, Form); 19] = [
    ("/", &[(Method::GET, StatusPage)], Local, Other),
    ("/metrics", &[(Method::GET, Metrics)], Local, Other),
    ("/healthz", &[(Method::GET, Health)], Open, Other),
    ("/readyz", &[(Method::GET, Readiness)], Open, Other),
    ("/imagefactory", &[(Method::GET, ApiInformation)], Open, Json),
    ("/imagefactory/openapi.json", &[(Method::GET, OpenApi)], Open, Json),
    ("/imagefactory/plugins", &[(Method::GET, ListPlugins)], Signed, Json),
    ("/imagefactory/plugins/{plugin_id}", &[(Method::GET, ShowPlugin)], Signed, Json),
    ("/imagefactory/plugins/{plugin_id}/{again}", &[(Method::GET, ShowPlugin)], Signed, Json),
    ("/imagefactory/jeos", &[(Method::GET, Jeos)], Open, Json),
    ("/imagefactory/jeos/images", &[(Method::GET, ListJeosImages)], Open, Json),
    ("/imagefactory/targets", &[(Method::GET, ListTargets)], Signed, Json),
    ("/imagefactory/targets/{target}", &[(Method::GET, ShowTarget)], Signed, Json),
    ("/imagefactory/targets/{target}/providers", &[(Method::GET, ListProviders)], Signed, Json),
    (
        "/imagefactory/targets/{target}/providers/{provider}",
        &[(Method::GET, ShowProvider)],
        Signed,
        Json,
    ),
    ("/imagefactory/templates/validate", &[(Method::POST, ValidateTemplate)], Signed, Json),
    ("/imagefactory/events", &[(Method::GET, Events)], Signed, Other),
    ("/imagefactory/leftovers", &[(Method::GET, ListLeftovers)], Signed, Json),
    ("/imagefactory/leftovers/{leftover_id}", &[(Method::DELETE, DropLeftover)], Signed, Json),
];

/// The places where images stand.
const PLACES: [(ImageKind, &str); 6] = [
    (BaseImage, "/imagefactory/base_images"),
    (TargetImage, "/imagefactory/target_images"),
    (ProviderImage, "/imagefactory/provider_images"),
    (TargetImage, "/imagefactory/base_images/{base_image_id}/target_images"),
    (ProviderImage, "/imagefactory/target_images/{target_image_id}/provider_images"),
    (
        ProviderImage,
        "/imagefactory/base_images/{base_image_id}/target_images/{target_image_id}/provider_images",
    ),
];

/// What each place has.
const AT_EACH_PLACE: [(&str, MethodRow, Access, Form); 7] = [
    ("", &[(Method::GET, ListImages), (Method::POST, NewImage)], Signed, Json),
    ("/{id}", &[(Method::GET, ShowImage), (Method::DELETE, DeleteImage)], Signed, Json),
    ("/{id}/cancel", &[(Method::POST, CancelImage)], Signed, Json),
    ("/{id}/raw_image", &[(Method::GET, RawImage)], AlwaysSigned, Other),
    ("/{id}/artifacts", &[(Method::GET, ListArtifacts)], AlwaysSigned, Json),
    ("/{id}/artifacts/{name}", &[(Method::GET, Artifact)], AlwaysSigned, Other),
    ("/{id}/log", &[(Method::GET, Log)], AlwaysSigned, Other),
];

static TABLE: LazyLock<Vec<Row>> = LazyLock::new(|| {
    let images = PLACES.iter().flat_map(|(kind, place)| {
        AT_EACH_PLACE.iter().map(move |(below, methods, access, form)| {
            Row::new(format!("{place}{below}"), Some(*kind), methods, (*access, *form))
        })
    });
    let plain = PLAIN.iter().map(|(path, methods, access, form)| {
        Row::new((*path).to_owned(), None, methods, (*access, *form))
    });
    images.chain(plain).collect()
});

impl Row {
    fn new(
        path: String,
        kind: Option<ImageKind>,
        methods: MethodRow,
        (access, form): (Access, Form),
    ) -> Row {
        let segments = split(&path)
            .map(|segment| match segment.strip_prefix('{') {
                Some(name) => Segment::Varying(name.trim_end_matches('}').to_owned()),
                None => Segment::Fixed(segment.to_owned()),
            })
            .collect();
        Row { path, kind, methods: methods.to_vec(), access, form, segments }
    }

    /// The `{names}` in the path, without their braces.
    pub(crate) fn varying(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Varying(name) => Some(name.as_str()),
            Segment::Fixed(_) => None,
        })
    }

    /// `GET, HEAD, POST`: for `Allow`.
    pub(crate) fn allowed(&self) -> String {
        let mut allowed = Vec::new();
        for (method, _) in &self.methods {
            allowed.push(method.as_str());
            if method == Method::GET {
                allowed.push("HEAD");
            }
        }
        allowed.join(", ")
    }
}

/// All addresses.
pub(crate) fn table() -> &'static [Row] {
    &TABLE
}

/// An address that was found, with what varies in it.
#[derive(Debug)]
pub(crate) struct Found {
    /// Its row.
    pub(crate) row: &'static Row,
    /// What is asked for.
    pub(crate) endpoint: Endpoint,
    /// The path as we write it: no trailing slash, ids in lower case.
    pub(crate) path: String,
    values: Vec<(&'static str, String)>,
}

impl Found {
    /// What stands at `{name}`, decoded; empty for a name that the row does not have.
    pub(crate) fn value(&self, name: &str) -> &str {
        self.values.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    }

    /// Does the path have `{name}`?
    pub(crate) fn has(&self, name: &str) -> bool {
        self.values.iter().any(|(known, _)| *known == name)
    }

    /// The UUID at `{name}`; `None` for everything that is none in its usual form.
    pub(crate) fn uuid(&self, name: &str) -> Option<Uuid> {
        uuid(self.value(name))
    }
}

/// The row of a path and the endpoint of a method: or 404, or 405 with `Allow`.
pub(crate) fn find(method: &Method, path: &str) -> Result<Found, Problem> {
    /// Deeper than any row.
    const SEGMENTS_MAX: usize = 12;
    let unknown = || Problem::not_found("there is nothing at this address");
    let segments: Vec<&str> = split(path).take(SEGMENTS_MAX).collect();
    let row = TABLE.iter().find(|row| matches(row, &segments)).ok_or_else(unknown)?;
    let wanted = if method == Method::HEAD { &Method::GET } else { method };
    let known = row.methods.iter().find(|(known, _)| known == wanted);
    let Some((_, endpoint)) = known else {
        return Err(Problem::method_not_allowed(method.as_str(), &row.allowed()));
    };
    let mut values = Vec::new();
    let mut canonical = String::with_capacity(path.len());
    for (segment, text) in row.segments.iter().zip(&segments) {
        canonical.push('/');
        match segment {
            Segment::Fixed(text) => canonical.push_str(text),
            Segment::Varying(name) => {
                let value = decoded(text).ok_or_else(unknown)?;
                match uuid(&value) {
                    Some(id) => canonical.push_str(&id.to_string()),
                    None => canonical.push_str(text),
                }
                values.push((name.as_str(), value));
            }
        }
    }
    Ok(Found { row, endpoint: *endpoint, path: canonical, values })
}

fn split(path: &str) -> impl Iterator<Item = &str> {
    // One trailing slash (or some) is the same as none; empty segments in between are not.
    let bare = path.strip_prefix('/').unwrap_or(path).trim_end_matches('/');
    bare.split('/').filter(move |_| !bare.is_empty())
}

fn matches(row: &Row, segments: &[&str]) -> bool {
    row.segments.len() == segments.len()
        && row.segments.iter().zip(segments).all(|(segment, text)| match segment {
            Segment::Fixed(fixed) => fixed == text,
            Segment::Varying(_) => !text.is_empty(),
        })
}

/// A path segment without percent-encoding. `None`: not UTF-8, or it would leave its segment.
fn decoded(text: &str) -> Option<String> {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8().ok()?;
    let is_harmless = !decoded.contains(['/', '\\', '\0']) && decoded != "." && decoded != "..";
    is_harmless.then(|| decoded.into_owned())
}

/// `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` in any case, and nothing else.
fn uuid(text: &str) -> Option<Uuid> {
    const HYPHENATED: usize = 36;
    (text.len() == HYPHENATED).then(|| Uuid::try_parse(text).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "7df54954-4b95-4061-85f2-8598f326107e";

    fn check_found(method: &Method, path: &str, endpoint: Endpoint, row: &str) {
        let found = find(method, path).unwrap();
        assert_eq!((found.endpoint, found.row.path.as_str()), (endpoint, row), "{method} {path}");
    }

    fn check_refused(method: &Method, path: &str, status: u16) {
        let refused = find(method, path).unwrap_err().into_response();
        assert_eq!(refused.status().as_u16(), status, "{method} {path}");
    }

    #[test]
    fn a_path_finds_its_row_with_and_without_trailing_slash() {
        check_found(&Method::GET, "/", StatusPage, "/");
        check_found(&Method::GET, "/imagefactory", ApiInformation, "/imagefactory");
        check_found(&Method::GET, "/imagefactory/", ApiInformation, "/imagefactory");
        check_found(&Method::HEAD, "/imagefactory/plugins/", ListPlugins, "/imagefactory/plugins");
        let place = "/imagefactory/base_images/{base_image_id}/target_images";
        let path = format!("/imagefactory/base_images/{ID}/target_images/");
        check_found(&Method::POST, &path, NewImage, place);
    }

    #[test]
    fn ids_are_matched_in_any_case_and_written_in_lower_case() {
        let upper = format!("/imagefactory/base_images/{}", ID.to_uppercase());
        let found = find(&Method::GET, &upper).unwrap();
        assert_eq!(found.path, format!("/imagefactory/base_images/{ID}"));
        assert_eq!(found.uuid("id"), Uuid::parse_str(ID).ok());
        let braces = find(&Method::GET, "/imagefactory/base_images/%7B1%7D").unwrap();
        assert_eq!(braces.uuid("id"), None);
    }

    #[test]
    fn what_is_not_there_is_404_and_what_cannot_be_done_is_405() {
        check_refused(&Method::GET, "/nowhere", 404);
        check_refused(&Method::GET, "/imagefactory//plugins", 404);
        check_refused(&Method::GET, "/imagefactory/plugins/%2e%2e", 404);
        check_refused(&Method::GET, "/imagefactory/plugins/a%2fb", 404);
        check_refused(&Method::GET, "/imagefactory/plugins/%ff", 404);
        check_refused(&Method::PUT, "/imagefactory/base_images", 405);
        check_refused(&Method::DELETE, "/imagefactory/plugins", 405);
        let refused = find(&Method::PATCH, "/imagefactory/base_images").unwrap_err();
        assert_eq!(refused.into_response().headers()["allow"], "GET, HEAD, POST");
    }

    #[test]
    fn no_two_rows_are_the_same_address() {
        for (index, row) in table().iter().enumerate() {
            let path = row.path.replace(['{', '}'], "x");
            let first = table().iter().position(|other| {
                let segments: Vec<&str> = split(&path).collect();
                matches(other, &segments)
            });
            assert_eq!(first, Some(index), "{}", row.path);
        }
    }

    #[test]
    fn the_users_reference_has_every_address_and_no_other() {
        let reference = include_str!("../../../../docs/REST_API.md");
        let start = reference.find("## Addresses").unwrap();
        let end = reference.find("## Ordering images").unwrap();
        let section = &reference[start..end];
        let mut told: Vec<String> = Vec::new();
        let places: Vec<&str> = section
            .lines()
            .filter_map(|line| line.strip_prefix("    /").map(|_| line.trim()))
            .collect();
        for line in section.lines().filter(|line| line.starts_with('|')) {
            if line.starts_with("| *place*") {
                let below = line.split('`').nth(1).unwrap_or("");
                let below = if line.starts_with("| *place* |") { "" } else { below };
                told.extend(places.iter().map(|place| format!("{place}{below}")));
            } else {
                let codes = line.split('`').skip(1).step_by(2);
                told.extend(codes.filter(|code| code.starts_with('/')).map(str::to_owned));
            }
        }
        told.sort();
        let mut rows: Vec<String> = table().iter().map(|row| row.path.clone()).collect();
        rows.sort();
        assert_eq!(told, rows);
    }
}
