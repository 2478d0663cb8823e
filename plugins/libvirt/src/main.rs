//! `imagefactory-libvirt`: volumes and machines of libvirt, for plugins.
//!
//! A program of its own, so that no plugin and no part of the host needs libvirt's library: who
//! does not use libvirt need not install it. It is asked by one JSON document on standard input and
//! answers on standard output, one document a line (`conversation.rs`). It decides nothing: names,
//! formats and what is kept are the plugin's. Read on: [`volume`], then [`machine`].

#![forbid(unsafe_code)]

mod conversation;
mod domain;
mod machine;
mod volume;

use std::io::BufRead;
use std::process::ExitCode;

use conversation::{Answer, Failure, Request, answer};
use virt::connect::Connect;

fn main() -> ExitCode {
    let mut stdin = std::io::stdin().lock();
    let mut line = String::new();
    let asked = match stdin.read_line(&mut line) {
        Ok(_) => serde_json::from_str::<Request>(&line)
            .map_err(|error| Failure::failed(format!("the request: {error}"))),
        Err(error) => Err(Failure::failed(format!("the request cannot be read: {error}"))),
    };
    // Its own words on standard error would be said twice: errors are answers.
    virt::error::clear_error_callback();
    match asked.and_then(|request| serve(request, &mut stdin)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            answer(&Answer::Error(failure));
            ExitCode::FAILURE
        }
    }
}

fn serve(request: Request, stdin: &mut impl BufRead) -> Result<(), Failure> {
    let connection = connect(request.uri())?;
    match request {
        Request::Look { pool, volume, .. } => {
            let facts = volume::look(&connection, &pool, &volume)?;
            answer(&Answer::Volume { facts });
        }
        Request::Create { pool, volume, file, .. } => {
            let facts = Some(volume::create(&connection, &pool, &volume, &file)?);
            answer(&Answer::Volume { facts });
        }
        Request::Clone { pool, from, volume, .. } => {
            let facts = Some(volume::clone(&connection, &pool, &from, &volume)?);
            answer(&Answer::Volume { facts });
        }
        Request::Delete { pool, volume, .. } => {
            volume::delete(&connection, &pool, &volume)?;
            answer(&Answer::Volume { facts: None });
        }
        Request::Boot { uri, machine } => machine::boot((&uri, &connection), &machine, stdin)?,
    }
    Ok(())
}

fn connect(uri: &str) -> Result<Connect, Failure> {
    Connect::open(Some(uri)).map_err(|error| {
        let message = format!(
            "libvirt at {uri} does not answer: {}. Does libvirtd run, and may the stage reach its \
             socket (its folder in plugin_folders, and unix_sock_rw_perms in libvirtd.conf)?",
            error.message()
        );
        Failure { kind: "unreachable", message }
    })
}
