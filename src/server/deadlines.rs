//! A connection on which the client may not take for ever: between requests, in the head of a request, in taking
//! what it is sent, and in going on to send what nobody wants any more. (The body of a request and its answer have limits
//! of their own, in the listener.)

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use super::limits::Limits;

/// What goes on on a connection: how many requests began and ended, an odd number while one is being answered, and when
/// the last one ended.
#[derive(Clone)]
pub(super) struct Progress(Arc<State>);

struct State {
    count: AtomicU32,
    opened: Instant,
    /// Microseconds from `opened`.
    ended: AtomicU64,
    /// Nothing more is read of what the client may still send: the rest of a request, or another one.
    cut_short: AtomicBool,
}

impl Default for Progress {
    fn default() -> Self {
        let (count, ended) = (AtomicU32::new(0), AtomicU64::new(0));
        Self(Arc::new(State { count, opened: Instant::now(), ended, cut_short: AtomicBool::new(false) }))
    }
}

impl Progress {
    /// A request begins. It ends when what is answered is dropped.
    pub(super) fn begin(&self) -> Busy {
        self.0.count.fetch_add(1, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// The request is the last one of the connection, whatever the client still sends: the rest of it, or another one.
    pub(super) fn cut_short(&self) {
        self.0.cut_short.store(true, Ordering::Relaxed);
    }

    fn ended(&self) -> Instant {
        self.0.opened + Duration::from_micros(self.0.ended.load(Ordering::Relaxed))
    }
}

/// A request that is being answered.
pub(super) struct Busy(Progress);

impl Drop for Busy {
    fn drop(&mut self) {
        let State { count, opened, ended, .. } = &*self.0.0;
        ended.store(u64::try_from(opened.elapsed().as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// A timer that is set rarely: an earlier alarm is left standing, and whoever it wakes looks at the time.
#[derive(Default)]
struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready when `deadline` has passed; otherwise whoever polls is woken by then, or before.
    fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

/// The connection.
pub(super) struct Deadlines<S> {
    stream: S,
    progress: Progress,
    /// What `progress` was when it was looked at last.
    seen: u32,
    /// Since when the present wait for the client goes on, and how long it may.
    since: Instant,
    patience: Duration,
    /// Something was read that no request is made of so far.
    in_head: bool,
    limits: Limits,
    reading: Alarm,
    /// Since when the client takes nothing.
    stuck_since: Option<Instant>,
    writing: Alarm,
    /// Until when to read on, once nothing more is sent.
    linger_until: Option<Instant>,
    lingering: Alarm,
}

impl<S> Deadlines<S> {
    pub(super) fn new(stream: S, progress: Progress, limits: Limits) -> Self {
        Self {
            stream,
            progress,
            seen: 0,
            since: Instant::now(),
            // A connection is opened to send something on it.
            patience: limits.head,
            in_head: false,
            limits,
            reading: Alarm::default(),
            stuck_since: None,
            writing: Alarm::default(),
            linger_until: None,
            lingering: Alarm::default(),
        }
    }

    /// Takes note of what went on since the last look, and answers whether a request is being answered.
    fn is_busy(&mut self) -> bool {
        let count = self.progress.0.count.load(Ordering::Relaxed);
        if count != self.seen {
            self.seen = count;
            self.since = self.progress.ended();
            self.patience = self.limits.idle;
            self.in_head = false;
        }
        count % 2 == 1
    }

    /// What a write that does not go on means.
    fn stuck(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let since = *self.stuck_since.get_or_insert_with(Instant::now);
        ready!(self.writing.poll(cx, since + self.limits.write));
        Poll::Ready(timed_out("the client does not take its answers"))
    }

    /// Whether the client may still be sending something that was answered: a request that was cut short, or a head, which hyper
    /// answers when it has seen enough of it.
    fn may_be_sending(&mut self) -> bool {
        let busy = self.is_busy();
        self.progress.0.cut_short.load(Ordering::Relaxed) || (!busy && self.in_head)
    }

    fn wrote<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match done {
            Poll::Ready(done) => {
                self.stuck_since = None;
                Poll::Ready(done)
            }
            Poll::Pending => self.stuck(cx).map(Err),
        }
    }
}

fn timed_out(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, problem)
}

impl<S: AsyncRead + Unpin> AsyncRead for Deadlines<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let busy = this.is_busy();
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(read) => {
                this.in_head |= !busy;
                if !busy && this.patience != this.limits.head {
                    // The first bytes of a head: the rest has to follow soon.
                    this.since = Instant::now();
                    this.patience = this.limits.head;
                }
                Poll::Ready(read)
            }
            Poll::Pending => {
                // hyper waits for the next request with what it is told here, also while it answers this one: so there is
                // an alarm in any case.
                let since = if busy { Instant::now() } else { this.since };
                let deadline = since + this.patience;
                this.reading.poll(cx, deadline).map(|()| Err(timed_out("the client sends no request")))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> Deadlines<S> {
    /// Reads what nobody wants, until the client closes the connection or its time is over.
    fn linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = *self.linger_until.get_or_insert_with(|| Instant::now() + self.limits.linger);
        let mut unwanted = [0; 8 * 1024];
        while Instant::now() < until {
            let mut unwanted = ReadBuf::new(&mut unwanted);
            match Pin::new(&mut self.stream).poll_read(cx, &mut unwanted) {
                Poll::Ready(Ok(())) if !unwanted.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.lingering.poll(cx, until),
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Deadlines<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(cx, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(cx, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_flush(cx);
        self.wrote(cx, done)
    }

    /// Says that nothing more will come. A client that may still be sending is read on for a while: closing a connection with
    /// something unread resets it, which can overtake the answer (RFC 9112 section 9.6).
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger_until.is_none() {
            let done = Pin::new(&mut self.stream).poll_shutdown(cx);
            ready!(self.wrote(cx, done))?;
            if !self.may_be_sending() {
                return Poll::Ready(Ok(()));
            }
        }
        self.linger(cx).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
        time::{advance, pause},
    };

    use super::*;

    fn pair() -> (Deadlines<DuplexStream>, DuplexStream, Progress) {
        let (server, client) = tokio::io::duplex(16);
        let progress = Progress::default();
        (Deadlines::new(server, progress.clone(), Limits::default()), client, progress)
    }

    async fn read(stream: &mut Deadlines<DuplexStream>) -> io::Result<usize> {
        stream.read(&mut [0; 16]).await
    }

    #[tokio::test]
    async fn a_client_that_sends_no_head_is_given_up() {
        pause();
        let (mut stream, _client, _) = pair();
        let started = Instant::now();
        assert_eq!(read(&mut stream).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed().as_secs(), Limits::default().head.as_secs());
    }

    #[tokio::test]
    async fn a_head_in_drops_has_one_deadline() {
        pause();
        let (mut stream, mut client, progress) = pair();
        drop(progress.begin());
        let started = Instant::now();
        let trickle = async {
            loop {
                client.write_all(b"x").await.unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let reading = async {
            loop {
                if let Err(error) = read(&mut stream).await {
                    return error;
                }
            }
        };
        tokio::select! {
            () = trickle => {}
            error = reading => assert_eq!(error.kind(), io::ErrorKind::TimedOut),
        }
        assert_eq!(started.elapsed().as_secs(), Limits::default().head.as_secs());
    }

    #[tokio::test]
    async fn requests_one_after_the_other_are_never_given_up() {
        pause();
        let (mut stream, mut client, progress) = pair();
        for _ in 0..10 {
            client.write_all(b"head").await.unwrap();
            assert_eq!(read(&mut stream).await.unwrap(), 4);
            // Answered within one poll, so that the connection never sees it under way.
            drop(progress.begin());
            let idle = tokio::time::timeout(Limits::default().idle - Duration::from_secs(1), read(&mut stream));
            assert!(idle.await.is_err());
        }
        assert_eq!(read(&mut stream).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_request_under_way_has_no_deadline_here() {
        pause();
        let (mut stream, _client, progress) = pair();
        let busy = progress.begin();
        assert!(tokio::time::timeout(Duration::from_secs(3600), read(&mut stream)).await.is_err());
        drop(busy);
        assert!(read(&mut stream).await.is_err());
    }

    #[tokio::test]
    async fn a_wait_that_began_while_a_request_was_under_way_ends_as_well() {
        pause();
        let (mut stream, _client, progress) = pair();
        let busy = progress.begin();
        let started = Instant::now();
        let reading = tokio::spawn(async move { read(&mut stream).await.map(drop) });
        tokio::time::sleep(Duration::from_secs(3)).await;
        drop(busy);
        assert_eq!(reading.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed().as_secs(), Limits::default().idle.as_secs() + 3);
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_given_up() {
        pause();
        let (mut stream, mut client, _) = pair();
        for _ in 0..3 {
            stream.write_all(&[0; 16]).await.unwrap();
            advance(Limits::default().write).await;
            client.read_exact(&mut [0; 16]).await.unwrap();
        }
        let started = Instant::now();
        assert_eq!(stream.write_all(&[0; 17]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed().as_secs(), Limits::default().write.as_secs());
    }
}
