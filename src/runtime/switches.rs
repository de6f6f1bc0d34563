//! Waiting for what is said by one part of the operator and heeded by others.

use std::future::{Future, pending};

use futures::{Stream, StreamExt, stream};
use tokio::sync::{mpsc::UnboundedReceiver, watch};

/// Waits for a switch to become true. One whose sender is gone never does.
pub async fn on(mut switch: watch::Receiver<bool>) {
    if switch.wait_for(|on| *on).await.is_err() {
        pending::<()>().await;
    }
}

/// Waits for a switch to become false. One whose sender is gone never does.
pub async fn off(mut switch: watch::Receiver<bool>) {
    if switch.wait_for(|on| !*on).await.is_err() {
        pending::<()>().await;
    }
}

/// Does something while a switch is on. When the switch goes off it is dropped at once, wherever it is, and begun anew when
/// the switch is on again.
pub async fn while_on<T, F: Future<Output = T>>(switch: watch::Receiver<bool>, work: impl Fn() -> F) -> T {
    loop {
        on(switch.clone()).await;
        tokio::select! {
            biased;
            () = off(switch.clone()) => {}
            done = work() => return done,
        }
    }
}

/// What is received until a switch is on. Then the receiver is dropped: nothing more can be sent, so that nothing piles up.
pub fn received_until<T>(receiver: UnboundedReceiver<T>, switch: watch::Receiver<bool>) -> impl Stream<Item = T> {
    stream::unfold((receiver, switch), |(mut receiver, switch)| async move {
        let received = tokio::select! {
            biased;
            () = on(switch.clone()) => None,
            received = receiver.recv() => received,
        };
        received.map(|received| (received, (receiver, switch)))
    })
}

/// A stream that is dropped and begun anew each time that a number becomes another; `begin` is told the number.
pub fn begun_for_each<S: Stream>(
    number: watch::Receiver<u64>,
    mut begin: impl FnMut(u64) -> S,
) -> impl Stream<Item = S::Item> {
    stream::repeat(())
        .map(move |()| {
            let mut number = number.clone();
            let current = *number.borrow_and_update();
            let another = async move {
                if number.changed().await.is_err() {
                    pending::<()>().await;
                }
            };
            begin(current).take_until(Box::pin(another))
        })
        .flatten()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::FutureExt;
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_is_dropped_when_the_switch_goes_off_and_begun_anew() {
        let (switch, switched) = watch::channel(false);
        let (begun, ended) = (AtomicU32::new(0), watch::Sender::new(false));
        let mut work = Box::pin(while_on(switched, || async {
            begun.fetch_add(1, Ordering::Relaxed);
            on(ended.subscribe()).await;
        }));
        for (is_on, times) in [(false, 0), (true, 1), (true, 1), (false, 1), (true, 2)] {
            switch.send_replace(is_on);
            assert!(work.as_mut().now_or_never().is_none());
            assert_eq!(begun.load(Ordering::Relaxed), times);
        }
        // What is off does not end, even if it could.
        switch.send_replace(false);
        ended.send_replace(true);
        assert!(work.as_mut().now_or_never().is_none());
        switch.send_replace(true);
        assert!(work.as_mut().now_or_never().is_some());
    }

    #[tokio::test]
    async fn what_is_sent_after_the_switch_is_refused() {
        let (sender, receiver) = mpsc::unbounded_channel();
        let (switch, switched) = watch::channel(false);
        let mut received = Box::pin(received_until(receiver, switched));
        sender.send(1).unwrap();
        assert_eq!(received.next().await, Some(1));
        assert!(received.next().now_or_never().is_none());
        sender.send(2).unwrap();
        switch.send_replace(true);
        assert_eq!(received.next().await, None, "what waits is not received any more");
        assert!(sender.is_closed());
    }

    #[tokio::test]
    async fn a_stream_begins_anew_for_each_number() {
        let (number, numbered) = watch::channel(1);
        let begin = |number| stream::iter([number * 10, number * 10 + 1]).chain(stream::pending());
        let mut stream = Box::pin(begun_for_each(numbered, begin));
        assert_eq!(stream.next().await, Some(10));
        number.send_replace(2);
        assert_eq!(stream.next().await, Some(20), "what was left of the first is dropped");
        assert_eq!(stream.next().await, Some(21));
        assert!(stream.next().now_or_never().is_none());
    }
}
