//! A machine that lives as long as the conversation about it.
//!
//! libvirt destroys it when the connection ends, however that happens (AUTODESTROY). It is started
//! halted, its serial console is opened, and only then it goes on: so not a byte of what it says is
//! missed.

use std::fs::File;
use std::io::{BufRead, Write};
use std::path::Path;

use virt::connect::Connect;
use virt::domain::{Domain, DomainState};
use virt::error::Error;
use virt::stream::Stream;
use virt::sys::{VIR_DOMAIN_START_AUTODESTROY, VIR_DOMAIN_START_PAUSED};

use crate::conversation::{Answer, Failure, MachineOrder, MachineRequest, answer};
use crate::domain::domain_xml;

/// A screenshot has 3 bytes for each point: 4K and more.
const SCREEN_BYTES_MAX: usize = 64 << 20;

const PIECE_BYTES: usize = 64 << 10;

/// Starts it, answers questions until the input ends, ends it.
pub fn boot(
    (uri, connection): (&str, &Connect),
    machine: &MachineOrder,
    questions: &mut impl BufRead,
) -> Result<(), Failure> {
    let refused = |error: Error| Failure::of("cannot start the machine", &error);
    let flags = VIR_DOMAIN_START_AUTODESTROY | VIR_DOMAIN_START_PAUSED;
    let domain = connection.create_domain_xml(&domain_xml(machine), flags).map_err(refused)?;
    let talked = listen(uri, machine).and_then(|()| {
        domain.resume().map_err(refused)?;
        answer(&Answer::Started);
        converse(connection, &domain, questions)
    });
    // Gone already is as good; and if not, the end of the connection takes it.
    domain.destroy().ok();
    talked
}

/// Writes the serial console into the file, in a thread that ends with the machine. Over a
/// connection of its own: on a common one, who waits for the console keeps others waiting.
fn listen(uri: &str, machine: &MachineOrder) -> Result<(), Failure> {
    let serial = &machine.serial;
    let unwritable = |error| Failure::failed(format!("{}: {error}", serial.display()));
    let mut file = File::options().create(true).append(true).open(serial).map_err(unwritable)?;
    let (uri, name) = (uri.to_owned(), machine.name.clone());
    let (opened, is_open) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let stream = Connect::open(Some(&uri)).and_then(|connection| {
            let domain = connection.lookup_domain_by_name(&name)?;
            let stream = Stream::new(&connection, 0)?;
            domain.open_console(None, &stream, 0)?;
            Ok(stream)
        });
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                // The other side waits for exactly this.
                opened.send(Err(Failure::of("cannot open the console", &error))).ok();
                return;
            }
        };
        opened.send(Ok(())).ok();
        let mut piece = vec![0; PIECE_BYTES];
        while let Ok(bytes) = stream.recv(&mut piece) {
            let bytes = usize::try_from(bytes).unwrap_or(0);
            if bytes == 0 || file.write_all(&piece[..bytes]).is_err() {
                break;
            }
        }
        // The machine may be gone, and its stream with it.
        stream.abort().ok();
    });
    let nobody = |_| Err(Failure::failed("the console's thread has ended".to_owned()));
    is_open.recv().unwrap_or_else(nobody)
}

fn converse(
    connection: &Connect,
    domain: &Domain,
    questions: &mut impl BufRead,
) -> Result<(), Failure> {
    for line in questions.lines() {
        // An end of input in the middle of a line is an end as well.
        let Ok(line) = line else { return Ok(()) };
        let question: MachineRequest = serde_json::from_str(&line)
            .map_err(|error| Failure::failed(format!("the request: {error}")))?;
        match question {
            MachineRequest::State => answer(&Answer::State(state(domain))),
            MachineRequest::Screenshot { file } => match screenshot(connection, domain, &file) {
                Ok(media_type) => answer(&Answer::Screenshot(media_type)),
                Err(failure) => answer(&Answer::Error(failure)),
            },
        }
    }
    Ok(())
}

fn state(domain: &Domain) -> &'static str {
    let Ok((state, _)) = domain.state() else { return "gone" };
    let names = [
        (DomainState::Running, "running"),
        (DomainState::Blocked, "running"),
        (DomainState::Paused, "paused"),
        (DomainState::Shutdown, "shutdown"),
        (DomainState::Shutoff, "shutdown"),
        (DomainState::Crashed, "crashed"),
    ];
    let name = names.iter().find(|(known, _)| state.is(*known)).map(|(_, name)| *name);
    name.unwrap_or("unknown")
}

fn screenshot(connection: &Connect, domain: &Domain, file: &Path) -> Result<String, Failure> {
    let refused = |error: Error| Failure::of("no screenshot", &error);
    let stream = Stream::new(connection, 0).map_err(refused)?;
    let media_type = domain.screenshot(&stream, 0, 0).map_err(refused)?;
    let (mut screen, mut piece) = (Vec::new(), vec![0; PIECE_BYTES]);
    loop {
        let bytes = usize::try_from(stream.recv(&mut piece).map_err(refused)?).unwrap_or(0);
        if bytes == 0 {
            break;
        }
        screen.extend_from_slice(&piece[..bytes]);
        if screen.len() > SCREEN_BYTES_MAX {
            return Err(Failure::failed("the screenshot does not end".to_owned()));
        }
    }
    stream.finish().map_err(refused)?;
    std::fs::write(file, screen)
        .map_err(|error| Failure::failed(format!("{}: {error}", file.display())))?;
    Ok(media_type)
}
