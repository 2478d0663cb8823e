//! The socket: handed over by systemd, or bound by us.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::error::DaemonError;

/// The listening socket. systemd's wins (`imagefactoryd.socket`), so that no connection is refused
/// while the daemon restarts.
pub(crate) async fn listener(address: &str, port: u16) -> Result<TcpListener, DaemonError> {
    let shown = format!("{address}:{port}");
    let failed = |cause| DaemonError::Listen { address: shown.clone(), cause };
    if let Some(socket) = listenfd::ListenFd::from_env().take_tcp_listener(0).map_err(failed)? {
        socket.set_nonblocking(true).map_err(failed)?;
        return TcpListener::from_std(socket).map_err(failed);
    }
    let addresses = resolved(address, port).await?;
    let mut refusal = None;
    for address in addresses {
        // tokio sets SO_REUSEADDR: a restart need not wait for old connections.
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(cause) => refusal = Some(cause),
        }
    }
    let cause = refusal.unwrap_or_else(|| std::io::ErrorKind::AddrNotAvailable.into());
    Err(DaemonError::Listen { address: shown, cause })
}

async fn resolved(address: &str, port: u16) -> Result<Vec<SocketAddr>, DaemonError> {
    let bare = address.trim_matches(['[', ']']);
    let found = tokio::net::lookup_host((bare, port)).await.map_err(|cause| {
        DaemonError::Address { address: address.to_owned(), why: cause.to_string() }
    })?;
    Ok(found.collect())
}
