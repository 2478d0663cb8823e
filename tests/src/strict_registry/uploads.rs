//! Upload sessions: opened, filled as bytes come, asked how far they are, completed, given up.

use std::io::{BufReader, Read};
use std::net::TcpStream;
use std::time::Duration;

use super::{Answer, Asked, State, digest_of, drain, lock};

pub(super) fn upload(
    asked: &Asked,
    (repository, id): (&str, &str),
    client: &mut BufReader<TcpStream>,
    state: &State,
) -> (Answer, bool) {
    let key = format!("{repository}/{id}");
    let location = |id: &str| format!("/v2/{repository}/blobs/uploads/{id}");
    let so_far = |answer: Answer, bytes: usize| {
        answer.with("location", location(id)).with("range", format!("0-{}", bytes.max(1) - 1))
    };
    if asked.method == "POST" {
        let cut = drain(client, asked.bytes()).is_none();
        let mut holdings = lock(&state.holdings);
        if let (Some(digest), Some(from)) = (asked.query.get("mount"), asked.query.get("from"))
            && let Some(blob) = holdings.blobs.get(&format!("{from}@{digest}")).cloned()
        {
            holdings.blobs.insert(format!("{repository}@{digest}"), blob);
            return (Answer::new(201).with("location", "/"), cut);
        }
        holdings.opened += 1;
        let id = format!("upload-{}", holdings.opened);
        holdings.uploads.insert(format!("{repository}/{id}"), Vec::new());
        return (Answer::new(202).with("location", location(&id)).with("range", "0-0"), cut);
    }
    let behaviour = lock(&state.behaviour).clone();
    let (known, turn) = {
        let mut holdings = lock(&state.holdings);
        let turn = holdings.turns.entry(key.clone()).or_default();
        *turn += 1;
        let turn = *turn;
        (holdings.uploads.get(&key).map(Vec::len), turn)
    };
    let Some(have) = known else {
        let cut = drain(client, asked.bytes()).is_none();
        return (Answer::error(404, "BLOB_UPLOAD_UNKNOWN"), cut);
    };
    match asked.method.as_str() {
        "GET" => (so_far(Answer::new(204), have), false),
        "DELETE" => {
            lock(&state.holdings).uploads.remove(&key);
            (Answer::new(204), false)
        }
        "PATCH" if behaviour.no_pieces => {
            let cut = drain(client, asked.bytes()).is_none();
            (Answer::error(405, "UNSUPPORTED"), cut)
        }
        "PATCH" => {
            let range = asked.headers.get("content-range").and_then(|it| it.split_once('-'));
            let start = range.and_then(|(start, _)| start.parse().ok()).unwrap_or(have);
            if start != have {
                let cut = drain(client, asked.bytes()).is_none();
                return (so_far(Answer::new(416), have), cut);
            }
            let whole = take(client, asked.bytes(), (&key, turn), state);
            let have = lock(&state.holdings).uploads.get(&key).map_or(0, Vec::len);
            (so_far(Answer::new(202), have), !whole)
        }
        "PUT" => {
            let whole = take(client, asked.bytes(), (&key, turn), state);
            (finish(asked, repository, &key, state), !whole)
        }
        _ => (Answer::new(405), false),
    }
}

/// Takes a body into an upload as it comes; `false`: it broke off.
fn take(client: &mut impl Read, bytes: u64, (key, turn): (&str, u64), state: &State) -> bool {
    let bytes_per_s = lock(&state.behaviour).bytes_per_s;
    let mut left = bytes;
    let mut piece = vec![0; 16 << 10];
    while left > 0 {
        let wanted = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let Ok(read @ 1..) = client.read(&mut piece[..wanted]) else { return false };
        {
            let mut holdings = lock(&state.holdings);
            if holdings.turns.get(key) != Some(&turn) {
                return false;
            }
            holdings.upload_bytes += read as u64;
            if let Some(upload) = holdings.uploads.get_mut(key) {
                upload.extend_from_slice(&piece[..read]);
            }
        }
        left -= read as u64;
        if bytes_per_s > 0 {
            std::thread::sleep(Duration::from_secs_f64(read as f64 / bytes_per_s as f64));
        }
    }
    true
}

fn finish(asked: &Asked, repository: &str, key: &str, state: &State) -> Answer {
    let Some(digest) = asked.query.get("digest") else {
        return Answer::error(400, "DIGEST_INVALID");
    };
    let mut holdings = lock(&state.holdings);
    let Some(content) = holdings.uploads.remove(key) else {
        return Answer::error(404, "BLOB_UPLOAD_UNKNOWN");
    };
    if digest_of(&content) != *digest {
        return Answer::error(400, "DIGEST_INVALID");
    }
    holdings.blobs.insert(format!("{repository}@{digest}"), content);
    Answer::new(201).with("docker-content-digest", digest).with("location", "/")
}
