//! Times, for people.

use jiff::Timestamp;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// So many seconds in the largest unit of which there are at least two: `47h`, `3d`.
fn length(seconds: i64) -> String {
    match seconds {
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 2 * HOUR => format!("{}m", s / MINUTE),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s => format!("{}d", s / DAY),
    }
}

/// How long ago it was, as kubectl shows ages. In the future: `0s`.
pub fn age(time: Timestamp, now: Timestamp) -> String {
    length((now.as_second() - time.as_second()).max(0))
}

/// A time, and how far away it is.
pub fn when(time: Timestamp, now: Timestamp) -> String {
    let distance = time.as_second() - now.as_second();
    if distance > 0 {
        format!("{time} (in {})", length(distance))
    } else {
        format!("{time} ({} ago)", length(-distance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_kubectl_shows_them() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let table = [(0, "0s"), (119, "119s"), (120, "2m"), (2 * HOUR, "2h"), (47 * HOUR, "47h"), (3 * DAY, "3d")];
        for (seconds, expected) in table {
            assert_eq!(age(at(0), at(seconds)), expected);
        }
        assert_eq!(age(at(5), at(0)), "0s");
        assert_eq!(when(at(300), at(0)), "1970-01-01T00:05:00Z (in 5m)");
        assert_eq!(when(at(0), at(300)), "1970-01-01T00:00:00Z (5m ago)");
    }
}
