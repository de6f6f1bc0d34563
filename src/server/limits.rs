//! How much of everything a client may use before it is known who it is.

use std::time::Duration;

/// How long the head of a request may be, in bytes.
///
/// hyper takes a URI of at most 65,534 bytes. The longest that needs to be in one is Alibaba's Encrypt: 6 KiB of plaintext are
/// 8,192 characters of base64, of which percent-encoding makes up to 24,576; an encryption context of 8,192 ASCII
/// characters makes as many again. That leaves 16 KiB for the rest of the query, and 32 KiB here for the headers:
/// tokens have about 1 KiB, sometimes 8. What does not fit can be sent as a form.
pub const MAX_HEAD: usize = 96 * 1024;

/// How many headers a request may have. The SDKs send about 12.
pub const MAX_HEADERS: usize = 64;

/// How long a body may be, in bytes.
///
/// The longest that is legal is Alibaba's CreateKey as a form: a description of 8,192 characters of up to 4 bytes makes 96 KiB
/// percent-encoded, 20 tags of 384 characters 90 KiB.
pub const MAX_BODY: usize = 192 * 1024;

/// A body up to this length is read for anybody. For the longer ones there are [`LARGE_BODIES`] places.
pub const SMALL_BODY: usize = 32 * 1024;

/// How many longer bodies are read at a time: so that strangers can't fill the memory with them.
pub const LARGE_BODIES: usize = 64;

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections that are open at a time, a listener. The next ones wait to be accepted.
    pub connections: usize,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// Between a request's first byte and the end of its head.
    pub head: Duration,
    /// For a request's body.
    pub body: Duration,
    /// Between two requests of a connection.
    pub idle: Duration,
    /// Without taking anything of what is sent to it.
    pub write: Duration,
    /// To go on sending after it was answered before it had sent all, and the connection is to be closed.
    pub linger: Duration,
    /// For a request to be answered: more than the 10 s that an operation waits for the operator.
    pub request: Duration,
    /// How long to go on taking connections and requests when the endpoint is to stop: a Service sends clients here until
    /// every node has heard that it should not.
    pub leave: Duration,
    /// For requests under way after that. Kubernetes kills a pod after 30 s.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            body: Duration::from_secs(10),
            idle: Duration::from_secs(120),
            write: Duration::from_secs(20),
            linger: Duration::from_secs(5),
            request: Duration::from_secs(30),
            leave: Duration::ZERO,
            drain: Duration::from_secs(20),
        }
    }
}
